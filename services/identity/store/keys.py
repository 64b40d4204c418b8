"""Signing keys; the private halves are encrypted."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import delete, insert, select

from caravan.database import Database, UnitOfWork
from caravan.database.conditions import is_among
from caravan.database.query import Query
from caravan.database.tables import col, list_columns
from services.identity.tables import SigningKey

KEYS_LOCK = 0x1D02
"""Advisory lock: of several replicas one makes the next key."""


class SigningKeyRow(NamedTuple):
    kid: str
    public: str
    sealed: bytes
    signs_from: datetime


_LIST = Query(select(*list_columns(SigningKey, SigningKeyRow)).order_by(col(SigningKey.signs_from)), SigningKeyRow)
_INSERT = Query(insert(SigningKey))
_DELETE = Query(delete(SigningKey).where(is_among(col(SigningKey.kid), "kids")))


async def lock_keys(uow: UnitOfWork) -> None:
    await uow.execute("SELECT pg_advisory_xact_lock($1)", KEYS_LOCK)


async def list_keys(uow: Database | UnitOfWork) -> list[SigningKeyRow]:
    return await _LIST.fetch_all(uow)


async def insert_key(
    uow: UnitOfWork, kid: str, public: dict[str, Any], sealed: bytes, now: datetime, signs_from: datetime
) -> None:
    public_json = orjson.dumps(public).decode()
    await _INSERT.execute(uow, kid=kid, public=public_json, sealed=sealed, created_at=now, signs_from=signs_from)


async def delete_keys(uow: UnitOfWork, kids: Sequence[str]) -> None:
    await _DELETE.execute(uow, kids=list(kids))
