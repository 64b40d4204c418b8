"""Requests refused for want of a right (401, 403), for the audit log: counted for each who, where from and which operation.

Each is told of within seconds for the first time and then at most once a minute, so that who is refused all day fills no disk; and identity, which writes
them down, is asked beside the requests, never by one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import orjson
from prometheus_client import Counter

from caravan import telemetry
from caravan.auth import Caller
from caravan.client import Calls
from caravan.database import CONNECTION_LOST
from caravan.errors import Problem
from caravan.telemetry import log
from services.identity.client import RECORD_REFUSALS, Refusal, Refusals

STATUSES = frozenset({401, 403})
WINDOW_SECONDS = 60.0
MOST = 50
"""Records in that time of one replica. What is beyond is counted together: the audit log then says how much it was, and the metric."""
VARIOUS = "various"
SHOWN = 300
COUNTED = Counter("caravan_gateway_refused_total", "Requests refused for want of a right", ["status"])


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
    def __init__(self, calls: Calls, now: Callable[[], float] = time.monotonic) -> None:
        self._calls = calls
        self._now = now
        self._waiting: dict[_Key, _Count] = {}
        self._reported: set[_Key] = set()
        self._began = now()

    def note(self, status: int, caller: Caller | None, address: str, operation: str, reason: str) -> None:
        COUNTED.labels(status).inc()
        key = _Key(status, caller.name if caller else "anonymous", address, operation)
        if key not in self._waiting and len(self._waiting) >= MOST:
            key = _Key(status, VARIOUS, VARIOUS, VARIOUS)
            reason = f"more than {MOST} of different callers, addresses or operations"
        seen = self._waiting.get(key)
        if seen is None:
            seen = self._waiting[key] = _Count(reason[:SHOWN], telemetry.trace_id() or "")
        seen.count += 1

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
                status=key.status,
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
            await self._calls(RECORD_REFUSALS, Refusals(items=items))
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
