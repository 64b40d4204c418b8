"""The trace context as a W3C `traceparent` in a context variable, and OpenTelemetry spans.

The context always exists, so that logs, messages and problem documents can name a trace; spans are made only when a
collector is configured. The flag `01` says that the span it names is recorded; with `00` only the trace is named, and
the first span in it has no parent.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Any
from uuid import UUID

from opentelemetry.trace import INVALID_SPAN, Span, SpanKind

from caravan.fifo_cache import FifoCache
from caravan.telemetry.recorded_span import RecordedSpan
from caravan.telemetry.traceparents import find_origin, new_traceparent, parse_trace_id, parse_traceparent

traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)
actor: ContextVar[str | None] = ContextVar("actor", default=None)
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
service_name: ContextVar[str | None] = ContextVar("service_name", default=None)
consumer_attributes: ContextVar[Mapping[str, str]] = ContextVar("consumer_attributes", default=MappingProxyType({}))
"""What each consumer's span says of where its messages come from."""

_send: Callable[[RecordedSpan], None] | None = None
"""Takes spans that have ended; None while none are made."""
_publishers: FifoCache[UUID, str] = FifoCache(5_000)

_current: ContextVar["_RecordedBlock | None"] = ContextVar("current_span", default=None)


def get_trace_id() -> str | None:
    return parse_trace_id(traceparent.get())


def is_recording() -> bool:
    """Whether spans are made: who would compute attributes for nothing asks first."""
    return _send is not None


def choose_traceparent(cause: str | None = None) -> str | None:
    """What a message or job carries on. `cause`: of the message that it follows from; the span around it when that is
    in the same trace, which it is not for most messages of a batch.
    """
    if (block := _current.get()) is not None:
        block.has_result = True
    current = traceparent.get()
    if cause is None or (current is not None and isinstance(cause, str) and current[3:35] == cause[3:35]):
        return current
    return parse_traceparent(cause) or current


def choose_tracestate(carried: str | None) -> str | None:
    """What a message carries beside its traceparent: the span in which it was made, where that is in another trace and
    follows from the message's own. A batch's readers then link to few spans instead of one for each message.
    """
    block = _current.get()
    return None if block is None or carried is None else block.name_origin(carried[3:35])


def remember_publisher(message_ids: Iterable[UUID]) -> None:
    """The span around this publishes these, and follows from each of them: readers in this process link to it."""
    if (current := traceparent.get()) is not None:
        for message_id in message_ids:
            _publishers[message_id] = current


def find_maker(message_id: UUID, carried: str | None, tracestate: str | None) -> str | None:
    """The traceparent that a batch links to for a message: of the span that made or published several at once, if that
    is known, else the message's own.
    """
    return find_origin(tracestate) or _publishers.get(message_id) or carried


def link_current_span(traceparents: Iterable[str | None]) -> None:
    """Say that the span around this follows from those, too: what a sweeper took up belongs to as many traces."""
    if (block := _current.get()) is not None:
        block.add_links(traceparents)


def mark_result() -> None:
    """Something came of what runs: its quiet span is sent."""
    if (block := _current.get()) is not None:
        block.has_result = True


def build_exemplar() -> dict[str, str] | None:
    """What ties an observation to the trace it was made in; None while no trace is exported, that it could lead to."""
    if _send is None or (trace_id := get_trace_id()) is None:
        return None
    return {"trace_id": trace_id}


class _NamedTrace(AbstractContextManager[Span]):
    """Runs a block in a trace without a span: a class, since a generator costs three times as much, some forty times an
    order.
    """

    __slots__ = ("_token", "_traceparent")
    _token: Token[str | None]

    def __init__(self, value: str) -> None:
        self._traceparent = value

    def __enter__(self) -> Span:
        self._token = traceparent.set(self._traceparent)
        return INVALID_SPAN

    def __exit__(self, *_: object) -> None:
        traceparent.reset(self._token)


def start_span(
    name: str,
    kind: SpanKind,
    *,
    parent: str | None = None,
    links: Iterable[str | None] = (),
    attributes: Mapping[str, Any] = MappingProxyType({}),
    traces: Iterable[str | None] = (),
    is_quiet: bool = False,
) -> AbstractContextManager[Span]:
    """Run a block in the trace of `parent` (default: the current one; a new trace without any), with the span that it
    gives, to which attributes can be added. `links`: traceparents of what it follows from beside its parent. What is
    none, as a foreign sender may write, is passed over. `traces`: traceparents of the traces that these links belong
    to, where they are in others. `is_quiet`: the span is sent only when another one or a message came of it.
    """
    parent = parse_traceparent(parent) or traceparent.get() or new_traceparent()
    if _send is None:
        return _NamedTrace(parent)
    return _RecordedBlock(name, kind, parent, links, attributes, traces, is_quiet)


def record_past_span(
    name: str, kind: SpanKind, started_at: int, attributes: Mapping[str, Any], error: BaseException | None = None
) -> None:
    """A span of what is over, and has turned out to be worth one. `started_at`: ns since 1970."""
    if _send is not None:
        span = _begin_span(name, kind, traceparent.get() or new_traceparent(), (), attributes, started_at)
        _end_span(span, error)


class _RecordedBlock(AbstractContextManager[Span]):
    """Runs a block in a span, and knows which traces follow into it."""

    __slots__ = (
        "_arguments",
        "_current_token",
        "_is_quiet",
        "_span",
        "_token",
        "_traceparent",
        "_traces",
        "has_result",
    )
    _span: RecordedSpan
    _traceparent: str
    _token: Token[str | None]
    _current_token: "Token[_RecordedBlock | None]"

    def __init__(
        self,
        name: str,
        kind: SpanKind,
        parent: str,
        links: Iterable[str | None],
        attributes: Mapping[str, Any],
        traces: Iterable[str | None],
        is_quiet: bool,
    ) -> None:
        self._arguments = (name, kind, parent, links, attributes)
        self._traces = {value[3:35] for value in traces if isinstance(value, str)}
        self._is_quiet = is_quiet
        self.has_result = False

    def __enter__(self) -> Span:
        if (outer := _current.get()) is not None:
            outer.has_result = True
        self._span = span = _begin_span(*self._arguments)
        self._traceparent = span.traceparent
        self._token = traceparent.set(self._traceparent)
        self._current_token = _current.set(self)
        return span

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        traceparent.reset(self._token)
        _current.reset(self._current_token)
        if not self._is_quiet or self.has_result or isinstance(error, Exception):
            _end_span(self._span, error)

    def add_links(self, traceparents: Iterable[str | None]) -> None:
        for value in traceparents:
            if value and value[3:35] not in self._traces and value[3:35] != self._traceparent[3:35]:
                for link in _check_links((value,)):
                    self._span.links.append(link)
                    self._traces.add(link[3:35])

    def name_origin(self, trace_id: str) -> str | None:
        """As a tracestate, this span, if it is in another trace that links to this one."""
        if trace_id not in self._traces or trace_id == self._traceparent[3:35]:
            return None
        return f"caravan={self._traceparent[3:52]}"


def _begin_span(
    name: str,
    kind: SpanKind,
    parent: str,
    links: Iterable[str | None],
    attributes: Mapping[str, Any],
    started_at: int | None = None,
) -> RecordedSpan:
    assert _send is not None
    if kind is SpanKind.CONSUMER:
        attributes = {**consumer_attributes.get(), **attributes}
    service = service_name.get() or ""
    return RecordedSpan(_send, service, name, kind, parent, _check_links(links), attributes, started_at)


def _end_span(span: RecordedSpan, error: BaseException | None) -> None:
    if isinstance(error, Exception):
        span.record_exception(error)
    elif isinstance(error, asyncio.CancelledError):
        span.set_attribute("caravan.cancelled", True)
    span.end()


def _check_links(traceparents: Iterable[str | None]) -> list[str]:
    """Each of them that is one, once."""
    return [link for value in dict.fromkeys(traceparents) if (link := parse_traceparent(value))]


def send_spans_to(send: Callable[[RecordedSpan], None] | None) -> None:
    """Make spans from now on, and hand over each that has ended; None: make no more."""
    global _send  # noqa: PLW0603 -- one per process, set once at its start
    _send = send
