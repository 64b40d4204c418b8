"""Observes the calls of a third party: how long each took, what came of it, and as a span of its own."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, get_args

from opentelemetry.trace import SpanKind

from caravan.telemetry.metrics import PROVIDER_CALL_DURATION
from caravan.telemetry.trace import build_exemplar, record_past_span, start_span

SLOW_SECONDS = 1.0
_batch: ContextVar[str | None] = ContextVar("provider_batch", default=None)
"""The operation of the calls whose one span is around."""
ProviderResult = Literal["ok", "refused", "failed", "timeout"]


@dataclass(slots=True)
class ProviderCall:
    """`result` is the caller's to change: an answer may be a no."""

    result: ProviderResult = "ok"


class ProviderCalls:
    """One for each third party, in the `metrics.py` of the service that calls it."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._durations = {
            result: PROVIDER_CALL_DURATION.labels(provider, result) for result in get_args(ProviderResult)
        }

    @contextmanager
    def observe(self, operation: str) -> Iterator[ProviderCall]:
        """Around the call and its deadline: an exception means that there was no answer."""
        call, started_at, started = ProviderCall(), time.time_ns(), time.perf_counter()
        error: BaseException | None = None
        in_batch = _batch.get() == operation
        with nullcontext() if in_batch else self._start_span(operation):
            try:
                yield call
            except BaseException as caught:
                error = caught
                call.result = "timeout" if isinstance(caught, TimeoutError) else "failed"
                raise
            finally:
                seconds = time.perf_counter() - started
                self._durations[call.result].observe(seconds, build_exemplar())
                if in_batch and (error is not None or seconds >= SLOW_SECONDS):
                    attributes = self._describe(operation)
                    record_past_span(f"{operation} {self._provider}", SpanKind.CLIENT, started_at, attributes, error)

    @contextmanager
    def observe_batch(self, operation: str, count: int) -> Iterator[None]:
        """Around several calls at once, each of which is observed: they are one span, beside which only those that
        failed or were slow have their own.
        """
        with self._start_span(operation, count):
            token = _batch.set(operation)
            try:
                yield
            finally:
                _batch.reset(token)

    def _start_span(self, operation: str, count: int = 1) -> AbstractContextManager[object]:
        attributes = self._describe(operation)
        if count > 1:
            attributes["caravan.provider.calls"] = count
        return start_span(f"{operation} {self._provider}", SpanKind.CLIENT, attributes=attributes)

    def _describe(self, operation: str) -> dict[str, Any]:
        return {"caravan.provider": self._provider, "caravan.provider.operation": operation}
