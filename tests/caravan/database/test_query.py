"""A declared statement gives asyncpg its arguments by name in the order of its text, and names what is missing or
unknown; an Upsert writes many rows of any values by one statement.
"""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from caravan.database import Database
from caravan.database import tables as sql
from caravan.database.conditions import is_among
from caravan.database.query import Query, Upsert
from caravan.database.tables import DeclaredTable, col, define_column, define_registry, list_columns
from caravan.runtime import Backends
from tests.support.database import count_statements, open_kernel_database

ITEM_TABLE = (
    "CREATE TABLE item (id uuid PRIMARY KEY, name text NOT NULL, note text, data json, raw bytea, at timestamptz,"
    " tags text[], version int NOT NULL DEFAULT 1)"
)


class KernelQueryTable(DeclaredTable, registry=define_registry("kernel_query")):
    pass


class ItemTable(KernelQueryTable, table=True):
    __tablename__ = "item"

    id: UUID = define_column(sql.UUID, primary_key=True)
    name: str = define_column(sql.TEXT)
    note: str | None = define_column(sql.TEXT)
    data: dict[str, Any] | None = define_column(sql.JSON)
    raw: bytes | None = define_column(sql.BYTEA)
    at: datetime | None = define_column(sql.TIMESTAMPTZ)
    tags: list[str] | None = define_column(sql.ARRAY(sql.TEXT))
    version: int = define_column(sql.INTEGER, default="1")


@dataclass(frozen=True)
class Item:
    id: UUID
    name: str
    note: str | None
    data: str | None
    raw: bytes | None
    at: datetime | None
    tags: list[str] | None


class Label(NamedTuple):
    id: UUID
    name: str


BY_ID = col(ItemTable.id) == bindparam("item_id")
FIND = Query(select(*list_columns(ItemTable, Item)).where(BY_ID), Item)
FIND_BY_NAME = Query(
    select(*list_columns(ItemTable, Label)).where(
        col(ItemTable.name) == bindparam("name"), col(ItemTable.version) == bindparam("version")
    ),
    Label,
)
LIST_IDS = Query(select(col(ItemTable.id)).where(is_among(col(ItemTable.name), "names")), UUID)
COUNT = Query(select(func.count()).select_from(ItemTable), int)
INSERT = Query(
    insert(ItemTable).values(
        id=bindparam("item_id"),
        name=bindparam("name"),
        note=bindparam("note"),
        data=bindparam("data"),
        raw=bindparam("raw"),
        at=bindparam("at"),
        tags=bindparam("tags"),
    )
)
RENAME_ALL = Query(update(ItemTable).values(name=bindparam("name")))
DELETE_ALL = Query(delete(ItemTable))
UPSERT = Upsert[Label](ItemTable, Label)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
times = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
items = st.builds(
    Item,
    st.uuids(),
    texts,
    st.none() | texts,
    st.none()
    | st.recursive(st.none() | st.booleans() | texts, st.lists, max_leaves=3).map(
        lambda value: orjson.dumps(value).decode()
    ),
    st.none() | st.binary(max_size=20),
    st.none() | times,
    st.none() | st.lists(texts, max_size=3),
)
any_example = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
async def opened(backends: Backends) -> AsyncIterator[Database]:
    async with open_kernel_database(backends, "kernel_query", ITEM_TABLE) as database:
        yield database


@pytest.fixture
async def database(opened: Database) -> Database:
    await opened.fetch("TRUNCATE item")
    return opened


async def insert_item(database: Database, item: Item) -> None:
    await INSERT.execute(
        database,
        item_id=item.id,
        name=item.name,
        note=item.note,
        data=item.data,
        raw=item.raw,
        at=item.at,
        tags=item.tags,
    )


@any_example
@given(item=items)
async def test_any_row_is_read_as_it_was_written(database: Database, item: Item) -> None:
    await DELETE_ALL.execute(database)
    await insert_item(database, item)
    assert await FIND.fetch_one(database, item_id=item.id) == item


async def test_the_ways_to_fetch(database: Database) -> None:
    first, second = Label(uuid4(), "a"), Label(uuid4(), "a")
    assert await COUNT.fetch_value(database) == 0
    assert await FIND.fetch_one(database, item_id=first.id) is None
    assert await FIND_BY_NAME.fetch_all(database, name="a", version=1) == []
    assert await UPSERT.execute(database, [first, second]) == 2
    assert sorted(await FIND_BY_NAME.fetch_all(database, name="a", version=1)) == sorted([first, second])
    assert sorted(await LIST_IDS.fetch_values(database, names=["a", "b"])) == sorted([first.id, second.id])
    assert await LIST_IDS.fetch_values(database, names=[]) == []
    assert await RENAME_ALL.execute(database, name="c") == 2
    assert await LIST_IDS.fetch_value(database, names=["a"]) is None


async def test_what_a_unit_of_work_does_not_commit_is_not_there(database: Database) -> None:
    with suppress(LookupError):
        async with database.unit_of_work() as uow:
            await UPSERT.execute(uow, [Label(uuid4(), "a")])
            assert await COUNT.fetch_value(uow) == 1
            raise LookupError
    assert await COUNT.fetch_value(database) == 0


async def test_arguments_are_by_name_whatever_their_order(database: Database) -> None:
    await UPSERT.execute(database, [Label(uuid4(), "a")])
    assert await FIND_BY_NAME.fetch_all(database, version=1, name="a") != []
    assert await FIND_BY_NAME.fetch_all(database, name="a", version=2) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "missing parameters ['name', 'version'], unknown parameters []"),
        ({"name": "a"}, "missing parameters ['version'], unknown parameters []"),
        ({"name": "a", "version": 1, "age": 2}, "missing parameters [], unknown parameters ['age']"),
        ({"name": "a", "versoin": 1}, "missing parameters ['version'], unknown parameters ['versoin']"),
    ],
)
async def test_missing_and_unknown_parameters_are_named_with_the_statement(
    database: Database, arguments: dict[str, Any], message: str
) -> None:
    sent = count_statements(database)
    with pytest.raises(TypeError) as refused:
        await FIND_BY_NAME.fetch_all(database, **arguments)
    assert str(refused.value).startswith(message)
    assert FIND_BY_NAME.text in str(refused.value)
    assert count_statements(database) == sent


def test_constants_stand_in_the_text_and_a_parameter_of_two_places_is_one() -> None:
    name = bindparam("name", type_=sql.TEXT)
    statement = select(col(ItemTable.id)).where((col(ItemTable.name) == name) | (col(ItemTable.note) == name))
    query = Query(statement.where(col(ItemTable.version) == 7), UUID)
    assert query.parameters == ("name",)
    assert "item.version = 7" in query.text


def test_a_list_whose_text_depends_on_its_length_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"in_\(names\).*is_among"):
        Query(select(col(ItemTable.id)).where(col(ItemTable.name).in_(bindparam("names", expanding=True))), UUID)


UPSERT_ALL = Upsert[Item](ItemTable, {name: attrgetter(name) for name in ("id", "name", "note", "data", "raw", "at")})
"""Without the tags: an array of arrays is none of rows."""


@any_example
@given(rows=st.lists(items, max_size=5, unique_by=lambda item: item.id))
async def test_an_upsert_writes_any_rows_by_one_statement_and_changes_them(
    database: Database, rows: list[Item]
) -> None:
    await DELETE_ALL.execute(database)
    for expected in (rows, [Item(r.id, "n", None, None, b"", None, None) for r in rows]):
        sent = count_statements(database)
        assert await UPSERT_ALL.execute(database, expected) == len(rows)
        assert count_statements(database) == sent + 1
        for item in expected:
            found = await FIND.fetch_one(database, item_id=item.id)
            assert found == Item(item.id, item.name, item.note, item.data, item.raw, item.at, None)


async def test_what_an_upsert_changes_of_a_row_that_is_there(database: Database) -> None:
    row_id = uuid4()
    keep = Upsert[Label](ItemTable, Label, changes=())
    lower = Upsert[Label](ItemTable, Label, condition="excluded.name < item.name")
    assert await keep.execute(database, [Label(row_id, "m")]) == 1
    assert await keep.execute(database, [Label(row_id, "a")]) == 0
    assert await lower.execute(database, [Label(row_id, "z")]) == 0
    assert await LIST_IDS.fetch_values(database, names=["m"]) == [row_id]
    assert await lower.execute(database, [Label(row_id, "a")]) == 1
    assert await LIST_IDS.fetch_values(database, names=["a"]) == [row_id]


async def test_a_fixed_column_keeps_what_it_was_inserted_with(database: Database) -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    save = Upsert[Item](ItemTable, {name: attrgetter(name) for name in ("id", "name", "at")}, fixed=("at",))
    item = Item(uuid4(), "a", None, None, None, first, None)
    assert await save.execute(database, [item]) == 1
    assert await save.execute(database, [replace(item, name="b", at=datetime(2026, 2, 2, tzinfo=UTC))]) == 1
    assert await FIND.fetch_one(database, item_id=item.id) == replace(item, name="b")


class Unnamed(NamedTuple):
    id: UUID


class Colored(NamedTuple):
    id: UUID
    name: str
    color: str


@pytest.mark.parametrize(
    ("row_type", "options", "message"),
    [
        (Colored, {}, "the table item has no column color"),
        (Label, {"key": ["color"]}, "the table item has no column color"),
        (Label, {"changes": ["color"]}, "the table item has no column color"),
        (Label, {"fixed": ["at"]}, "nothing writes at of item, which should be fixed"),
        (Unnamed, {}, "nothing writes name of item, which has no default"),
        (int, {}, "int is neither a dataclass nor a named tuple"),
    ],
)
def test_an_upsert_that_can_not_be_is_refused_when_it_is_declared(
    row_type: type, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        Upsert(ItemTable, row_type, **options)
