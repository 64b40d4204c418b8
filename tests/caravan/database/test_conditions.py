"""A shared condition holds for the rows that Python would choose, and its parameter has the type of its column."""

from collections.abc import AsyncIterator
from operator import eq, ge, gt, lt
from typing import Any

import pytest
from sqlalchemy import ColumnElement, select

from caravan.database import Database
from caravan.database import tables as sql
from caravan.database.conditions import compare_if_given, is_among
from caravan.database.query import Query
from caravan.database.tables import DeclaredTable, col, define_column, define_registry
from caravan.runtime import Backends
from tests.support.database import open_kernel_database

WORDS = {"a": 1, "bb": 2, "ccc": 3}


class ConditionsTable(DeclaredTable, registry=define_registry("kernel_conditions")):
    pass


class Word(ConditionsTable, table=True):
    __tablename__ = "word"

    text: str = define_column(sql.TEXT(collation="C"), primary_key=True)
    size: int = define_column(sql.BIGINT)


def declare(condition: ColumnElement[bool]) -> Query[str]:
    return Query(select(col(Word.text)).where(condition).order_by(col(Word.text)), str)


@pytest.fixture(scope="module")
async def database(backends: Backends) -> AsyncIterator[Database]:
    create = 'CREATE TABLE word (text text COLLATE "C" PRIMARY KEY, size bigint NOT NULL)'
    async with open_kernel_database(backends, "kernel_conditions", create) as database:
        await database.execute(
            "INSERT INTO word SELECT * FROM unnest($1::text[], $2::bigint[])", list(WORDS), list(WORDS.values())
        )
        yield database


@pytest.mark.parametrize("sizes", [[], [1], [1, 3, 3, 7]])
async def test_one_text_serves_any_number_of_values(database: Database, sizes: list[int]) -> None:
    found = await declare(is_among(col(Word.size), "sizes")).fetch_values(database, sizes=sizes)
    assert found == [word for word, size in WORDS.items() if size in sizes]


@pytest.mark.parametrize("compare", [eq, lt, gt, ge])
async def test_a_parameter_that_is_left_out_chooses_all_rows(database: Database, compare: Any) -> None:
    query = declare(compare_if_given(col(Word.size), "size", compare))
    assert await query.fetch_values(database, size=None) == list(WORDS)
    assert await query.fetch_values(database, size=2) == [word for word, size in WORDS.items() if compare(size, 2)]


async def test_a_row_is_equal_unless_another_comparison_is_named(database: Database) -> None:
    assert await declare(compare_if_given(col(Word.text), "text")).fetch_values(database, text="bb") == ["bb"]


def test_a_parameter_has_the_type_of_its_column_without_the_collation() -> None:
    assert declare(is_among(col(Word.size), "sizes")).text.count("ANY ($1::BIGINT[])") == 1
    assert declare(is_among(col(Word.text), "texts")).text.count("ANY ($1::TEXT[])") == 1
