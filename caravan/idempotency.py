"""Idempotency-Key: the same key and body get the same answer, however often and however parallel they come.

The record is inserted in the transaction of the effect itself, so there is no moment at which one exists without the other, and no lease to expire after a
crash: of two requests with a key, the database lets one commit; the other waits for it, writes nothing, and answers with what the first stored.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import asyncpg
import orjson
from fastapi import Depends, Header, Request
from fastapi.responses import Response

from caravan.auth import caller_of
from caravan.database import Answer, Database, KeyAlreadyUsed, UnitOfWork
from caravan.errors import InFlight, Invalid, Problem

MAX_KEY = 200
PRINTABLE = r"^[\x20-\x7e\xa1-\xac\xae-\xff]+$"
"""As far as a header can carry it."""
ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Once:
    """The idempotency of one request: `return await once.run(database, act)`, where `act` calls `once.save(work, ...)` in its unit of work."""

    scope: str
    key: str | None
    fingerprint: bytes

    async def run(self, database: Database, act: Callable[[], Awaitable[Response]]) -> Response:
        """Act, unless the key has its answer. Most keys are new, so the act comes first: its transaction can't commit beside a stored answer, and when it
        is refused, what is stored says whether that is because it had been done before."""
        if self.key is None:
            return await act()
        for _ in range(ATTEMPTS):
            try:
                return await act()
            except KeyAlreadyUsed:
                stored = await self._stored(database)
                if stored is not None:
                    return stored  # otherwise its time had come, and the key is free now
            except Problem:
                stored = await self._stored(database)
                if stored is not None:
                    return stored
                raise
            except asyncpg.LockNotAvailableError:
                break
        raise InFlight(f"the request with key {self.key!r} has not finished; ask again")

    def save(self, work: UnitOfWork, status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
        """Store the answer with the effect, and make the response of it."""
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        if self.key is not None:
            work.answer(Answer(self.scope, self.key, self.fingerprint, status, dict(headers or {}), content))
        return Response(content, status, dict(headers or {}), media_type="application/json")

    async def _stored(self, database: Database) -> Response | None:
        row = await database.fetchrow(
            "SELECT fingerprint, status, headers, body, expires_at <= $3 AS expired FROM idempotency WHERE scope = $1 AND key = $2",
            self.scope,
            self.key,
            database.clock(),
        )
        if row is None:
            return None
        if row["expired"]:
            await database.fetch(
                "DELETE FROM idempotency WHERE scope = $1 AND key = $2 AND expires_at <= $3", self.scope, self.key, database.clock()
            )
            return None
        if row["fingerprint"] != self.fingerprint:
            raise Invalid(f"Idempotency-Key {self.key!r} was used with another body; use a new key for a new request")
        return Response(
            row["body"], row["status"], {**orjson.loads(row["headers"]), "Idempotency-Replayed": "true"}, media_type="application/json"
        )


async def _once(request: Request, key: str) -> Once:
    caller = await caller_of(request)
    body = await request.body()
    try:
        body = orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
    except orjson.JSONDecodeError:
        pass  # not JSON: the endpoint says so; the raw bytes identify it meanwhile
    who = caller.subject if caller else f"anonymous {request.client.host if request.client else ''}"  # or one takes another's keys
    return Once(f"{who} {request.method} {request.scope['path']}", key, hashlib.sha256(body).digest())


_KEY = Header(
    min_length=1,
    max_length=MAX_KEY,
    pattern=PRINTABLE,
    description="A string of your own; the same key and body get the same answer, another body is refused (422).",
)


async def once(request: Request, idempotency_key: Annotated[str | None, _KEY] = None) -> Once:
    return await _once(request, idempotency_key) if idempotency_key is not None else Once("", None, b"")


async def once_required(request: Request, idempotency_key: Annotated[str, _KEY]) -> Once:
    return await _once(request, idempotency_key)


OnceIfKeyed = Annotated[Once, Depends(once)]
OnceRequired = Annotated[Once, Depends(once_required)]
