"""Requests refused for want of a right (401, 403), for the audit log: counted for each who, where from and which operation.

Each is told of within seconds for the first time and then at most once a minute, so that who is refused all day fills no disk; and they are written down
beside the requests, never by one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal, cast

import orjson
from pydantic import BaseModel, Field

from caravan import telemetry
from caravan.audit import audit
from caravan.database import CONNECTION_LOST, UnitOfWork
from caravan.errors import Problem
from caravan.telemetry import log

STATUSES = frozenset({401, 403})
WINDOW_SECONDS = 60.0
MOST = 50
"""Records in that time of one service in one process. What is beyond is counted together: the audit log then says how much it was, and the metric."""
VARIOUS = "various"
SHOWN = 300
PAUSE_SECONDS = 5.0
ANONYMOUS = "anonymous"


class Refusal(BaseModel):
    """Requests refused for want of a right, alike in who asked, where from and for what."""

    status: Literal[401, 403]
    actor: str = Field(max_length=300)
    address: str = Field(max_length=100)
    operation: str = Field(max_length=400)
    reason: str = Field(max_length=400)
    count: int = Field(ge=1)
    first_trace_id: str = Field(max_length=64)


@dataclass(frozen=True, slots=True)
class _Key:
    status: int
    actor: str
    address: str
    operation: str


@dataclass(slots=True)
class _Count:
    reason: str
    trace_id: str
    count: int = 0


class RefusedRequests:
    def __init__(self, write: Callable[[list[Refusal]], Awaitable[object]], now: Callable[[], float] = time.monotonic) -> None:
        """`write` puts them into the audit log. It raises a Problem, or what a lost connection raises, when it can't."""
        self._write = write
        self._now = now
        self._noted = asyncio.Event()
        self._waiting: dict[_Key, _Count] = {}
        self._reported: set[_Key] = set()
        self._began = now()

    def note(self, status: int, actor: str, address: str, operation: str, reason: str) -> None:
        self._noted.set()
        key = _Key(status, actor[:SHOWN], address, operation[:SHOWN])
        if key not in self._waiting and len(self._waiting) >= MOST:
            key = _Key(status, VARIOUS, VARIOUS, VARIOUS)
            reason = f"more than {MOST} of different callers, addresses or operations"
        seen = self._waiting.get(key)
        if seen is None:
            seen = self._waiting[key] = _Count(reason[:SHOWN], telemetry.trace_id() or "")
        seen.count += 1

    async def run(self) -> None:
        """Until cancelled. It rests as long as nobody is refused."""
        while True:
            await self._noted.wait()
            self._noted.clear()
            await self.report()
            if self._waiting:
                self._noted.set()
            await asyncio.sleep(PAUSE_SECONDS)

    async def report(self) -> None:
        """Have written down what is due. What could not be stays, and is counted on."""
        if self._now() - self._began >= WINDOW_SECONDS:
            self._reported.clear()
            self._began = self._now()
        left = MOST + len(STATUSES) - len(self._reported)
        due = {key: replace(seen) for key, seen in self._waiting.items() if key not in self._reported}
        due = dict(list(due.items())[:left])
        if not due:
            return
        items = [
            Refusal(
                status=cast("Literal[401, 403]", key.status),
                actor=key.actor,
                address=key.address,
                operation=key.operation,
                reason=seen.reason,
                count=seen.count,
                first_trace_id=seen.trace_id,
            )
            for key, seen in due.items()
        ]
        try:
            await self._write(items)
        except (Problem, *CONNECTION_LOST) as error:
            log.warning("refused requests are not in the audit log yet", count=len(items), error=repr(error))
            return
        for key, seen in due.items():
            self._reported.add(key)
            self._waiting[key].count -= seen.count
            if not self._waiting[key].count:
                del self._waiting[key]


def reason_of(body: bytes) -> str:
    """What a service's answer says of it, if it is a problem document."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    return str(document.get("detail", "")) if isinstance(document, dict) else ""


def record_refusals(work: UnitOfWork, refusals: Iterable[Refusal]) -> None:
    """Into the audit log, in the unit of work of whoever has a database."""
    for refused in refusals:
        details = refused.model_dump(exclude={"actor", "operation"})
        audit(work, "request.refused", f"operation:{refused.operation}", actor=refused.actor, result="refused", **details)
