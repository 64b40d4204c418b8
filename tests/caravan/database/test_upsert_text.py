"""What an Upsert is declared with decides its text; what the table has not, or needs, is refused at the declaration."""

from typing import NamedTuple

import pytest

from caravan.database import tables as sql
from caravan.database.query import Upsert
from caravan.database.tables import DeclaredTable, define_column, define_registry


class TrialTable(DeclaredTable, registry=define_registry("trial")):
    pass


class Parcel(TrialTable, table=True):
    __tablename__ = "parcel"

    parcel_id: int = define_column(sql.BIGINT, name="id", primary_key=True)
    is_closed: bool = define_column(sql.BOOLEAN, name="closed")
    note: str | None = define_column(sql.TEXT)


class ParcelRow(NamedTuple):
    parcel_id: int
    is_closed: bool


def test_an_upsert_writes_the_columns_of_the_fields() -> None:
    assert Upsert(Parcel, ParcelRow, condition="NOT parcel.closed").text == (
        "INSERT INTO parcel (id, closed) SELECT * FROM unnest($1::BIGINT[], $2::BOOLEAN[])"
        " ON CONFLICT (id) DO UPDATE SET closed = excluded.closed WHERE NOT parcel.closed"
    )


@pytest.mark.parametrize(
    ("columns", "refusal"),
    [
        (["parcel_id", "closed"], "the table parcel has no column closed"),
        (["parcel_id", "note"], "nothing writes is_closed of parcel, which has no default"),
    ],
)
def test_an_upsert_refuses_what_the_table_does_not_have_or_needs(columns: list[str], refusal: str) -> None:
    with pytest.raises(TypeError, match=refusal):
        Upsert(Parcel, dict.fromkeys(columns, str))
