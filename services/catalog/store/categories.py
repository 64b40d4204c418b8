"""The queries of declared categories."""

from collections.abc import Collection
from operator import gt

import orjson
from sqlalchemy import bindparam, select
from sqlalchemy.dialects.postgresql import insert

from caravan.database import Database, UnitOfWork
from caravan.database.conditions import compare_if_given, is_among
from caravan.database.query import Query
from caravan.database.tables import col, list_columns
from services.catalog import tables
from services.catalog.model import Category


def _to_category(name: str, attributes: str, free: bool) -> Category:
    return Category(name, orjson.loads(attributes), free)


def _to_versioned_category(version: int, name: str, attributes: str, free: bool) -> tuple[Category, int]:
    return _to_category(name, attributes, free), version


_COLUMNS = list_columns(tables.Category, Category)
_FIND = Query(
    select(*_COLUMNS).where(is_among(col(tables.Category.name), "names")),
    _to_category,
)
_LIST = Query(
    select(col(tables.Category.version), *_COLUMNS)
    .where(compare_if_given(col(tables.Category.name), "after", gt))
    .order_by(col(tables.Category.name))
    .limit(bindparam("limit")),
    _to_versioned_category,
)
_LOCK_VERSION = Query(
    select(col(tables.Category.version)).where(col(tables.Category.name) == bindparam("name")).with_for_update(), int
)
_INSERT = insert(tables.Category).values(
    name=bindparam("name"), attributes=bindparam("attributes"), free=bindparam("free"), version=1
)
_SAVE = Query(
    _INSERT.on_conflict_do_update(
        index_elements=["name"],
        set_={
            "attributes": _INSERT.excluded.attributes,
            "free": _INSERT.excluded.free,
            "version": col(tables.Category.version) + 1,
        },
    ).returning(col(tables.Category.version)),
    int,
)


async def find_categories(uow: UnitOfWork, names: Collection[str]) -> dict[str, Category]:
    return {category.name: category for category in await _FIND.fetch_all(uow, names=list(names))}


async def list_categories(database: Database, after: str | None, limit: int) -> list[tuple[Category, int]]:
    """Each with its version."""
    return await _LIST.fetch_all(database, after=after, limit=limit)


async def lock_category_version(uow: UnitOfWork, name: str) -> int | None:
    return await _LOCK_VERSION.fetch_value(uow, name=name)


async def save_category(uow: UnitOfWork, category: Category) -> int:
    """Its version now."""
    attributes = orjson.dumps(category.attributes).decode()
    version = await _SAVE.fetch_value(uow, name=category.name, attributes=attributes, free=category.free)
    assert version is not None
    return version
