"""Idempotency-Key: the same key and body get the same response, however often and however parallel they come.

The record is inserted in the transaction of the effect itself, so there is no moment at which one exists without the
other, and no lease to expire after a crash: of two requests with a key, the database lets one commit; the other waits
for it, writes nothing, and returns what the first stored.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import asyncpg
import orjson
from fastapi import Depends, Header, Request
from fastapi.responses import Response
from sqlalchemy import and_, bindparam, delete, select

from caravan.auth import get_caller
from caravan.database import Database, DuplicateRequest, StoredResponse, UnitOfWork
from caravan.database.kernel_tables import Idempotency
from caravan.database.query import Query
from caravan.database.tables import TIMESTAMPTZ, col
from caravan.errors import InvalidRequest, Problem, RequestInFlight

_MAX_KEY = 200
_KEY_PATTERN = r"^[\x20-\x7e\xa1-\xac\xae-\xff]+$"
"""As far as a header can carry it."""
_ATTEMPTS = 2


class _StoredRow(NamedTuple):
    fingerprint: bytes
    status: int
    headers: str
    body: bytes
    is_expired: bool


_BY_KEY = and_(col(Idempotency.scope) == bindparam("scope"), col(Idempotency.key) == bindparam("key"))
_IS_EXPIRED = col(Idempotency.expires_at) <= bindparam("now", type_=TIMESTAMPTZ)
_STORED = [col(Idempotency.fingerprint), col(Idempotency.status), col(Idempotency.headers), col(Idempotency.body)]
_FIND = Query(select(*_STORED, _IS_EXPIRED).where(_BY_KEY), _StoredRow)
_DELETE_EXPIRED = Query(delete(Idempotency).where(_BY_KEY, _IS_EXPIRED))


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """The idempotency of one request: `return await request.execute(database, action)`, where `action` calls
    `request.store(uow, ...)` in its unit of work.
    """

    scope: str
    key: str | None
    fingerprint: bytes

    async def execute(self, database: Database, operation: Callable[[], Awaitable[Response]]) -> Response:
        """Act, unless the key has its answer. Most keys are new, so the act comes first: its transaction can't commit
        beside a stored answer, and when it is refused, what is stored says whether that is because it had been done
        before.
        """
        if self.key is None:
            return await operation()
        for _ in range(_ATTEMPTS):
            try:
                return await operation()
            except DuplicateRequest:
                response = await self._fetch_stored(database)
                if response is not None:
                    return response  # otherwise its time had come, and the key is free now
            except Problem:
                response = await self._fetch_stored(database)
                if response is not None:
                    return response
                raise
            except asyncpg.LockNotAvailableError:
                break
        raise RequestInFlight(f"the request with key {self.key!r} has not finished; ask again")

    def store(self, uow: UnitOfWork, status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
        """Store the answer with the effect, and make the response of it."""
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        if self.key is not None:
            uow.store_response(
                StoredResponse(self.scope, self.key, self.fingerprint, status, dict(headers or {}), content)
            )
        return Response(content, status, dict(headers or {}), media_type="application/json")

    async def _fetch_stored(self, database: Database) -> Response | None:
        row = await _FIND.fetch_one(database, scope=self.scope, key=self.key, now=database.clock())
        if row is None:
            return None
        if row.is_expired:
            await _DELETE_EXPIRED.execute(database, scope=self.scope, key=self.key, now=database.clock())
            return None
        if row.fingerprint != self.fingerprint:
            raise InvalidRequest(
                f"Idempotency-Key {self.key!r} was used with another body; use a new key for a new request"
            )
        return Response(
            row.body,
            row.status,
            {**orjson.loads(row.headers), "Idempotency-Replayed": "true"},
            media_type="application/json",
        )


async def _make_request(request: Request, key: str) -> IdempotentRequest:
    caller = await get_caller(request)
    body = await request.body()
    with suppress(orjson.JSONDecodeError):  # not JSON: the endpoint says so; the raw bytes identify it meanwhile
        body = orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
    owner = (
        caller.subject if caller else f"anonymous {request.client.host if request.client else ''}"
    )  # or one takes another's keys
    return IdempotentRequest(f"{owner} {request.method} {request.scope['path']}", key, hashlib.sha256(body).digest())


_KEY = Header(
    min_length=1,
    max_length=_MAX_KEY,
    pattern=_KEY_PATTERN,
    description="A string of your own; the same key and body get the same answer, another body is refused (422).",
)


async def _read_optional_key(
    request: Request, idempotency_key: Annotated[str | None, _KEY] = None
) -> IdempotentRequest:
    return (
        await _make_request(request, idempotency_key)
        if idempotency_key is not None
        else IdempotentRequest("", None, b"")
    )


async def _read_required_key(request: Request, idempotency_key: Annotated[str, _KEY]) -> IdempotentRequest:
    return await _make_request(request, idempotency_key)


OptionalIdempotency = Annotated[IdempotentRequest, Depends(_read_optional_key)]
RequiredIdempotency = Annotated[IdempotentRequest, Depends(_read_required_key)]
