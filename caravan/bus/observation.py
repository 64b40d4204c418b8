"""Observes what is published and the batches of a subscription, the same on every transport: how long each took, how
many messages it had, what came of them, and which transport their spans name.

The embedded bus wraps a subscription's handler with it; on Kafka and RabbitMQ it is called by a middleware of
FastStream's (`pipeline.py`). The spans of a batch are the inbox's, which reads the messages' trace context.
"""

import time
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from opentelemetry.trace import Span, SpanKind

from caravan import telemetry
from caravan.bus import (
    DONE,
    BatchHandler,
    HandlingResult,
    IncomingMessage,
    PublishError,
    PublishFailure,
    Result,
    Subscription,
)
from caravan.messages import OutgoingMessage
from caravan.telemetry import consumer_attributes, metrics


class PublishSpans:
    """`with PublishSpans(messages, "kafka") as spans`: a span for each channel that these are published to at once.
    Each links to the spans in which its messages were made; the first of these is its parent.
    """

    def __init__(self, messages: Iterable[OutgoingMessage], system: str) -> None:
        self._system = system
        self._by_channel: dict[str, list[OutgoingMessage]] = {}
        self._spans: dict[str, Span] = {}
        self._stack = ExitStack()
        if telemetry.is_recording():
            for message in messages:
                self._by_channel.setdefault(message.channel, []).append(message)

    def __enter__(self) -> Self:
        for channel, messages in self._by_channel.items():
            attributes: dict[str, str | int] = {
                "messaging.system": self._system,
                "messaging.destination.name": channel,
                "messaging.operation.name": "publish",
                "messaging.operation.type": "send",
            }
            parent, origins = messages[0].traceparent, list[str | None]()
            if len(messages) > 1:
                attributes["messaging.batch.message_count"] = len(messages)
                origins = [telemetry.find_origin(message.tracestate) or message.traceparent for message in messages]
            else:
                attributes["messaging.message.id"] = str(messages[0].id)
            self._spans[channel] = self._stack.enter_context(
                telemetry.start_span(
                    f"publish {channel}",
                    SpanKind.PRODUCER,
                    parent=parent,
                    links=origins,
                    attributes=attributes,
                )
            )
            if len(set(origins)) > 1:
                telemetry.remember_publisher(message.id for message in messages if message.tracestate is None)
        return self

    def record_failures(self, failures: Iterable[PublishFailure]) -> None:
        if self._spans:
            for channel, failure in {failure.message.channel: failure for failure in failures}.items():
                self._spans[channel].record_exception(PublishError([failure]))

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(error_type, error, traceback)


class BatchObserver:
    """`system`: the transport as OpenTelemetry's conventions name it, such as "kafka"."""

    def __init__(self, subscription: Subscription, system: str) -> None:
        service, channel = subscription.service, subscription.channel
        self._attributes = {
            "messaging.system": system,
            "messaging.destination.name": channel,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": subscription.name,
        }
        self._duration = metrics.HANDLER_DURATION.labels(service, channel)
        self._batch_size = metrics.BATCH_SIZE.labels(service, channel)
        self._result_counters = {
            result: metrics.MESSAGES_HANDLED.labels(service, channel, result.value) for result in Result
        }
        self._done_counter = self._result_counters[Result.DONE]
        self._redelivered_counter = metrics.MESSAGES_REDELIVERED.labels(service, channel)
        metrics.DEAD_LETTERS.labels(channel, service)  # begins at 0

    async def observe_batch(
        self, batch: Sequence[IncomingMessage], handling: Awaitable[list[HandlingResult]]
    ) -> list[HandlingResult]:
        """Await the handling of a batch. One that raises was not handled: it comes again, and counts then."""
        if redelivered := sum(incoming.is_redelivered or incoming.attempt > 1 for incoming in batch):
            self._redelivered_counter.inc(redelivered)
        started_at = time.perf_counter()
        token = consumer_attributes.set(self._attributes)
        try:
            results = await handling
        finally:
            consumer_attributes.reset(token)
        self._duration.observe(time.perf_counter() - started_at, telemetry.build_exemplar())
        self._batch_size.observe(len(results))
        self._done_counter.inc(sum(outcome is DONE for outcome in results))
        for outcome in results:
            if outcome is not DONE:
                self._result_counters[outcome.result].inc()
        return results

    def wrap_handler(self, handler: BatchHandler) -> BatchHandler:
        async def handle_observed(batch: list[IncomingMessage]) -> list[HandlingResult]:
            return await self.observe_batch(batch, handler(batch))

        return handle_observed
