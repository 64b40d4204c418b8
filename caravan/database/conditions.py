"""Conditions that many declared statements share: a parameter that holds several values, and one that may be left out.

The parameter has the type of the column that it is compared with. `query.py` compiles the statements that use them.
"""

import operator
from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, any_, bindparam, or_
from sqlalchemy.orm import Mapped
from sqlalchemy.types import TypeEngine

from caravan.database.tables import ARRAY, TEXT

Comparison = Callable[[Any, Any], ColumnElement[bool]]


def is_among(column: Mapped[Any], parameter: str) -> ColumnElement[bool]:
    """The column holds one of the values of a parameter, which is given a list: one text for any number of values."""
    return column == any_(bindparam(parameter, type_=ARRAY(_get_type(column))))


def compare_if_given(column: Mapped[Any], parameter: str, compare: Comparison = operator.eq) -> ColumnElement[bool]:
    """The column compares so with a parameter; every row does when the parameter is given None."""
    value: ColumnElement[Any] = bindparam(parameter, type_=_get_type(column))
    return or_(value.is_(None), compare(column, value))


def _get_type(column: Any) -> TypeEngine[Any]:
    """A column's type without its collation, which holds for what the column is compared with, too."""
    found: TypeEngine[Any] = column.type
    return TEXT() if isinstance(found, TEXT) else found
