"""Requests refused for want of a right (401, 403), for the audit log: counted by caller, address and operation.

Each is recorded within seconds for the first time and then at most once a minute, so that a client that is refused all
day fills no disk; and by a background task, never by a request.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal, cast

import orjson
from pydantic import BaseModel, Field

from caravan import telemetry
from caravan.audit import record_audit
from caravan.database import CONNECTION_LOST, UnitOfWork
from caravan.errors import Problem
from caravan.telemetry import log

REFUSAL_STATUSES = frozenset({401, 403})
WINDOW_SECONDS = 60.0
MAX_RECORDS = 50
"""Records in that time of one service in one process. What is beyond is counted together: the audit log then says how
much it was, and the metric.
"""
VARIOUS = "various"
_MAX_REASON_LENGTH = 300
_PAUSE_SECONDS = 5.0
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
class _RefusalKey:
    status: int
    actor: str
    address: str
    operation: str


@dataclass(slots=True)
class _RefusalCount:
    reason: str
    trace_id: str
    count: int = 0


class RefusalRecorder:
    def __init__(
        self, write: Callable[[list[Refusal]], Awaitable[object]], now: Callable[[], float] = time.monotonic
    ) -> None:
        """`write` puts them into the audit log. It raises a Problem, or what a lost connection raises, when it
        can't.
        """
        self._write = write
        self._now = now
        self._has_pending = asyncio.Event()
        self._pending: dict[_RefusalKey, _RefusalCount] = {}
        self._reported_keys: set[_RefusalKey] = set()
        self._window_start = now()

    def record_refusal(self, status: int, actor: str, address: str, operation: str, reason: str) -> None:
        self._has_pending.set()
        key = _RefusalKey(status, actor[:_MAX_REASON_LENGTH], address, operation[:_MAX_REASON_LENGTH])
        if key not in self._pending and len(self._pending) >= MAX_RECORDS:
            key = _RefusalKey(status, VARIOUS, VARIOUS, VARIOUS)
            reason = f"more than {MAX_RECORDS} of different callers, addresses or operations"
        refusal = self._pending.get(key)
        if refusal is None:
            refusal = self._pending[key] = _RefusalCount(reason[:_MAX_REASON_LENGTH], telemetry.get_trace_id() or "")
        refusal.count += 1

    async def run(self) -> None:
        """Until cancelled. It rests as long as nobody is refused."""
        while True:
            await self._has_pending.wait()
            self._has_pending.clear()
            await self.send_report()
            if self._pending:
                self._has_pending.set()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def send_report(self) -> None:
        """Have written down what is due. What could not be stays, and is counted on."""
        if self._now() - self._window_start >= WINDOW_SECONDS:
            self._reported_keys.clear()
            self._window_start = self._now()
        records_left = MAX_RECORDS + len(REFUSAL_STATUSES) - len(self._reported_keys)
        unreported = {key: replace(refusal) for key, refusal in self._pending.items() if key not in self._reported_keys}
        unreported = dict(list(unreported.items())[:records_left])
        if not unreported:
            return
        items = [
            Refusal(
                status=cast("Literal[401, 403]", key.status),
                actor=key.actor,
                address=key.address,
                operation=key.operation,
                reason=refusal.reason,
                count=refusal.count,
                first_trace_id=refusal.trace_id,
            )
            for key, refusal in unreported.items()
        ]
        try:
            await self._write(items)
        except (Problem, *CONNECTION_LOST) as error:
            log.warning("refused requests are not in the audit log yet", count=len(items), error=repr(error))
            return
        for key, refusal in unreported.items():
            self._reported_keys.add(key)
            self._pending[key].count -= refusal.count
            if not self._pending[key].count:
                del self._pending[key]


def extract_reason(body: bytes) -> str:
    """What a service's answer says of it, if it is a problem document."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    return str(document.get("detail", "")) if isinstance(document, dict) else ""


def record_refusals(uow: UnitOfWork, refusals: Iterable[Refusal]) -> None:
    """Into the audit log, in the unit of work of whoever has a database."""
    for refused in refusals:
        details = refused.model_dump(exclude={"actor", "operation"})
        record_audit(
            uow, "request.refused", f"operation:{refused.operation}", actor=refused.actor, result="refused", **details
        )
