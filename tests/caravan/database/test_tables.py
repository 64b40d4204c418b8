"""A table's class says what Postgres makes; `tests/architecture/test_catalog.py` compares that with the migrations."""

from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

import pytest
from sqlalchemy import Computed, Identity
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from caravan.database import tables as sql
from caravan.database.tables import (
    DeclaredTable,
    col,
    define_column,
    define_registry,
    get_database_name,
    get_table,
    is_computed,
    list_columns,
    list_fields,
)


class ExampleTable(DeclaredTable, registry=define_registry("example")):
    pass


class Example(ExampleTable, table=True):
    __tablename__ = "example"

    number: int = define_column(sql.INTEGER, primary_key=True)
    position: int = define_column(sql.BIGINT, Identity(always=True))
    email: str = define_column(sql.TEXT, unique=True)
    note: str | None = define_column(sql.TEXT, name="remark")
    size: int = define_column(sql.INTEGER, default="1")
    double: int = define_column(sql.INTEGER, Computed("size * 2", persisted=True))


def test_a_column_is_what_its_annotation_and_its_options_say() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    text = str(CreateTable(get_table(Example)).compile(dialect=dialect))
    made = {line.strip().rstrip(",") for line in text.splitlines()}
    assert made >= {
        "number INTEGER NOT NULL",
        "position BIGINT GENERATED ALWAYS AS IDENTITY",
        "email TEXT NOT NULL",
        "remark TEXT",
        "size INTEGER DEFAULT 1 NOT NULL",
        "double INTEGER GENERATED ALWAYS AS (size * 2) STORED NOT NULL",
        "PRIMARY KEY (number)",
        "UNIQUE (email)",
    }


def test_postgres_has_a_value_for_defaults_identities_and_expressions() -> None:
    computed = {column.name for column in get_table(Example).c if is_computed(column)}
    assert computed == {"position", "size", "double"}


def test_each_database_has_tables_of_its_own() -> None:
    class OtherTable(DeclaredTable, registry=define_registry("other")):
        pass

    class Same(OtherTable, table=True):
        __tablename__ = "example"

        number: int = define_column(sql.INTEGER, primary_key=True)

    assert get_table(Same) is not get_table(Example)
    assert get_database_name(OtherTable.metadata) == "other"
    assert get_database_name(ExampleTable.metadata) == "example"
    assert list(ExampleTable.metadata.tables) == ["example"]


@dataclass
class Row:
    email: str
    number: int
    is_new: bool = field(default=False, init=False)


class Pair(NamedTuple):
    note: str | None
    email: str


class Stranger(NamedTuple):
    id: UUID
    email: str


def test_the_fields_of_a_row_are_those_it_is_built_of() -> None:
    assert list_fields(Row) == ["email", "number"]
    assert list_fields(Pair) == ["note", "email"]
    with pytest.raises(TypeError, match="UUID is neither a dataclass nor a named tuple"):
        list_fields(UUID)


def test_columns_come_in_the_order_of_the_fields_by_the_name_of_the_field() -> None:
    assert [column.name for column in list_columns(Example, Row)] == ["email", "number"]
    assert [column.name for column in list_columns(Example, Pair)] == ["remark", "email"]
    with pytest.raises(TypeError, match=r"the table example has no column id"):
        list_columns(Example, Stranger)


def test_an_expression_is_selected_in_the_place_of_its_field() -> None:
    columns = list_columns(Example, Stranger, id=col(Example.number))
    assert [column.name for column in columns] == ["number", "email"]
    with pytest.raises(TypeError, match="Pair has no field size"):
        list_columns(Example, Pair, size=col(Example.size))
    with pytest.raises(TypeError, match="the table example has no column id"):
        list_columns(Example, Stranger, email=col(Example.note))
