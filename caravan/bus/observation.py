"""Observes the batches of a subscription, the same on every transport: how long each took, how many messages it had,
what came of them, and which transport their spans name.

The embedded bus wraps a subscription's handler with it; on Kafka and RabbitMQ it is called by a middleware of
FastStream's (`pipeline.py`). The spans themselves are the inbox's, which reads the messages' trace context.
"""

import time
from collections.abc import Awaitable

from caravan.bus import DONE, BatchHandler, HandlingResult, IncomingMessage, Result, Subscription
from caravan.telemetry import consumer_attributes, metrics


class BatchObserver:
    """`system`: the transport as OpenTelemetry's conventions name it, such as "kafka"."""

    def __init__(self, subscription: Subscription, system: str) -> None:
        service, channel = subscription.service, subscription.channel
        self._attributes = {
            "messaging.system": system,
            "messaging.destination.name": channel,
            "messaging.consumer.group.name": subscription.name,
        }
        self._duration = metrics.HANDLER_DURATION.labels(service, channel)
        self._batch_size = metrics.BATCH_SIZE.labels(service, channel)
        self._result_counters = {
            result: metrics.MESSAGES_HANDLED.labels(service, channel, result.value) for result in Result
        }
        self._done_counter = self._result_counters[Result.DONE]

    async def observe_batch(self, handling: Awaitable[list[HandlingResult]]) -> list[HandlingResult]:
        """Await the handling of a batch. One that raises was not handled: it comes again, and counts then."""
        started_at = time.perf_counter()
        token = consumer_attributes.set(self._attributes)
        try:
            results = await handling
        finally:
            consumer_attributes.reset(token)
        self._duration.observe(time.perf_counter() - started_at)
        self._batch_size.observe(len(results))
        self._done_counter.inc(sum(outcome is DONE for outcome in results))
        for outcome in results:
            if outcome is not DONE:
                self._result_counters[outcome.result].inc()
        return results

    def wrap_handler(self, handler: BatchHandler) -> BatchHandler:
        async def handle_observed(batch: list[IncomingMessage]) -> list[HandlingResult]:
            return await self.observe_batch(handler(batch))

        return handle_observed
