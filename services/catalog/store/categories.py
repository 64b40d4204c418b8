"""The queries of declared categories."""

from collections.abc import Collection

import asyncpg
import orjson

from caravan.database import Database, UnitOfWork
from services.catalog.model import Category


def _to_category(row: asyncpg.Record) -> Category:
    return Category(row["name"], orjson.loads(row["attributes"]), row["free"])


async def find_categories(uow: UnitOfWork, names: Collection[str]) -> dict[str, Category]:
    rows = await uow.fetch("SELECT name, attributes, free FROM category WHERE name = ANY($1)", list(names))
    return {row["name"]: _to_category(row) for row in rows}


async def list_categories(database: Database, after: str | None, limit: int) -> list[tuple[Category, int]]:
    rows = await database.fetch(
        "SELECT name, attributes, free, version FROM category WHERE $1::text IS NULL OR name > $1 ORDER BY name"
        " LIMIT $2",
        after,
        limit,
    )
    return [(_to_category(row), row["version"]) for row in rows]


async def lock_category_version(uow: UnitOfWork, name: str) -> int | None:
    """Its version."""
    version: int | None = await uow.fetchval("SELECT version FROM category WHERE name = $1 FOR UPDATE", name)
    return version


async def save_category(uow: UnitOfWork, category: Category) -> int:
    version: int = await uow.fetchval(
        "INSERT INTO category (name, attributes, free, version) VALUES ($1, $2, $3, 1)"
        " ON CONFLICT (name) DO UPDATE SET attributes = EXCLUDED.attributes, free = EXCLUDED.free,"
        " version = category.version + 1 RETURNING version",
        category.name,
        orjson.dumps(category.attributes).decode(),
        category.free,
    )
    return version
