"""The rows of a report as a Parquet file, for whoever computes with them.

`api.py` calls it. It is apart from `model.py`, which has CSV, because it needs pyarrow: an extra that the shop does not
carry by itself, so it is loaded when the first file is asked for.
"""

import io
from collections.abc import Sequence
from datetime import date
from typing import Any, get_args

from pydantic import BaseModel

from caravan.errors import Problem

ARROW_TYPES: dict[Any, str] = {int: "int64", float: "float64", str: "string", date: "date32"}


class NotInstalled(Problem):
    status, title, slug = 501, "Not installed here", "not-installed"


def format_parquet(row_type: type[BaseModel], columns: Sequence[str], rows: Sequence[BaseModel]) -> bytes:
    """Columns have the types of the JSON document, days are dates, and sums are minor units of the row's currency.
    Raises NotInstalled.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise NotInstalled(
            "reports as Parquet need pyarrow, which is not installed where analytics runs: pip install "
            "'caravan[parquet]', or build its image with EXTRA=parquet; JSON and CSV are there without it"
        ) from None
    schema = pyarrow.schema(
        [pyarrow.field(name, getattr(pyarrow, ARROW_TYPES[_get_type(row_type, name)])()) for name in columns]
    )
    table = pyarrow.Table.from_pylist([row.model_dump(include=set(columns)) for row in rows], schema=schema)
    out = io.BytesIO()
    parquet.write_table(table, out)
    return out.getvalue()


def _get_type(row_type: type[BaseModel], name: str) -> Any:
    """What a field holds when it is not null."""
    annotation = row_type.model_fields[name].annotation
    return next((each for each in get_args(annotation) if each is not type(None)), annotation)
