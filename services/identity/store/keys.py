"""Signing keys; the private halves are encrypted."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from caravan.database import Database, UnitOfWork

KEYS_LOCK = 0x1D02
"""Advisory lock: of several replicas one makes the next key."""


async def lock_keys(uow: UnitOfWork) -> None:
    await uow.execute("SELECT pg_advisory_xact_lock($1)", KEYS_LOCK)


async def list_keys(uow: Database | UnitOfWork) -> list[asyncpg.Record]:
    return await uow.fetch("SELECT kid, public, sealed, signs_from FROM signing_key ORDER BY signs_from")


async def insert_key(
    uow: UnitOfWork, kid: str, public: dict[str, Any], sealed: bytes, now: datetime, signs_from: datetime
) -> None:
    await uow.execute(
        "INSERT INTO signing_key (kid, public, sealed, created_at, signs_from) VALUES ($1, $2, $3, $4, $5)",
        kid,
        orjson.dumps(public).decode(),
        sealed,
        now,
        signs_from,
    )


async def delete_keys(uow: UnitOfWork, kids: Sequence[str]) -> None:
    await uow.execute("DELETE FROM signing_key WHERE kid = ANY($1)", list(kids))
