"""The span of a commit that took long or failed: one for each would cost more than it says, since the span around it
has its time, and single statements are too many for spans.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from time import time_ns

from opentelemetry.trace import SpanKind

from caravan.telemetry.trace import mark_result, record_past_span

SLOW_NS = 100_000_000


class CommitObserver(AbstractContextManager[None]):
    """Around what a unit of work writes at its end, with the commit. `clock`: ns since 1970."""

    __slots__ = ("_clock", "_database", "_started_at")

    def __init__(self, database: str, clock: Callable[[], int] = time_ns) -> None:
        self._database = database
        self._clock = clock

    def __enter__(self) -> None:
        mark_result()
        self._started_at = self._clock()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None or self._clock() - self._started_at >= SLOW_NS:
            record_past_span(
                f"COMMIT {self._database}",
                SpanKind.CLIENT,
                self._started_at,
                {
                    "db.system.name": "postgresql",
                    "db.namespace": self._database,
                    "db.operation.name": "COMMIT",
                },
                error,
            )
