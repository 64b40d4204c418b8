"""Handles each message once: a batch is claimed, handled and committed in one unit of work, with the messages that its
handler emits.

When a handler fails, the batch is rolled back and its messages run one by one, so that a message that can't be handled
fails alone. The bus calls `Inbox.process_batch`; `caravan/consumers.py` declares the handlers.
"""

from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from opentelemetry.trace import SpanKind

from caravan import failpoint, fault_flags, telemetry
from caravan.bus import DONE, HandlingResult, IncomingMessage, Result
from caravan.concurrency import map_concurrently
from caravan.consumers import Consumer
from caravan.database import CONNECTION_LOST, UnitOfWork, current_message
from caravan.errors import MessageRejected
from caravan.fifo_cache import FifoCache
from caravan.messages import Binding, Delivery, MalformedMessage, Source, decode_message
from caravan.service import ServiceContext
from caravan.telemetry import HandledMessages, log, metrics
from caravan.telemetry.log_context import summarize_messages

EFFECTS_IN_FLIGHT = 32

_FAILED_ATTEMPTS_MAX = 1_000


class Inbox:
    """Runs the batches of one consumer. `is_shared`: others in this process read the same messages, so that what is
    decoded is kept for them.
    """

    def __init__(self, consumer: Consumer, context: ServiceContext[Any, Any], *, is_shared: bool = False) -> None:
        self.consumer = consumer
        self.context = context
        self.name = consumer.subscription.name
        service, channel = consumer.subscription.service, consumer.subscription.channel
        self._span_name = f"process {channel}"
        key = _get_key_name(consumer.subscription.source)
        self._key_attribute, self._key_field = key.replace(" ", "."), key.replace(" ", "_")
        self._failed_attempts: FifoCache[UUID, str] = FifoCache(_FAILED_ATTEMPTS_MAX)
        """The span of the first attempt at each message that failed lately."""
        self._duplicates = metrics.INBOX_DUPLICATES.labels(service, channel)
        self._has_types = len(consumer.accepted_types) > 1
        self._is_shared = is_shared
        self.last_handled: datetime | None = None
        """When the newest message was sent that is handled."""

    async def process_batch(self, batch: list[IncomingMessage]) -> list[HandlingResult]:
        telemetry.service_name.set(self.context.service)
        outcomes: list[HandlingResult] = [DONE] * len(batch)
        deliveries: list[tuple[int, Delivery[Any]]] = []
        injected = self._inject_faults(batch) if fault_flags.active else {}
        for index, incoming in enumerate(batch):
            if index in injected:
                outcomes[index] = injected[index]
                continue
            try:
                if not incoming.key:
                    raise MalformedMessage("no key: its order can't be kept")
                delivery = decode_message(
                    incoming.body, self.consumer.accepted_types, attempt=incoming.attempt, shared=self._is_shared
                )
                if type(delivery.message) not in self.consumer.ignored_types:
                    deliveries.append((index, delivery))
            except MalformedMessage as error:
                outcomes[index] = HandlingResult(Result.DEAD, str(error))
                log.warning(
                    "message refused", channel=self.consumer.subscription.channel, key=incoming.key, reason=str(error)
                )
        if deliveries:
            run = self._run_effects if self.consumer.is_effect else self._run_transactions
            await run(deliveries, outcomes)
            done = [d.time for index, d in deliveries if outcomes[index] is DONE and d.time.tzinfo]
            self.last_handled = max(done, default=self.last_handled)
        return outcomes

    def _inject_faults(self, batch: list[IncomingMessage]) -> dict[int, HandlingResult]:
        """What comes of messages that a fault strikes, by their place in the batch."""
        if fault_flags.is_on(fault_flags.POISON_MESSAGE, self.name):
            return dict.fromkeys(range(len(batch)), HandlingResult(Result.DEAD, "the fault poison-message is on"))
        injected: dict[int, HandlingResult] = {}
        if fault_flags.is_on(fault_flags.HANDLER_FAILING, self.name):
            failed_keys: set[str] = set()
            for index, incoming in enumerate(batch):
                if incoming.key in failed_keys:
                    injected[index] = HandlingResult(Result.BLOCKED)
                elif incoming.attempt == 1:
                    failed_keys.add(incoming.key)
                    injected[index] = HandlingResult(Result.RETRY, "the fault handler-failing is on")
        return injected

    async def _run_transactions(
        self, deliveries: list[tuple[int, Delivery[Any]]], outcomes: list[HandlingResult]
    ) -> None:
        if len(deliveries) > 1:
            try:
                await self._handle_in_transaction([delivery for _, delivery in deliveries])
                return
            except CONNECTION_LOST:
                raise
            except Exception as error:  # whatever it was, each message now runs alone and shows whose fault it is
                log.info(
                    "batch split",
                    channel=self.consumer.subscription.channel,
                    messages=len(deliveries),
                    error=repr(error),
                )
        failed_keys: set[str] = set()
        for index, delivery in deliveries:
            if delivery.key in failed_keys:
                outcomes[index] = HandlingResult(Result.BLOCKED)
                continue
            outcome = outcomes[index] = await self._await_outcome(delivery, self._handle_in_transaction([delivery]))
            if outcome.result is Result.RETRY:
                failed_keys.add(delivery.key)

    async def _handle_in_transaction(self, deliveries: Sequence[Delivery[Any]]) -> None:
        with self._observe(deliveries):
            async with self.context.database.unit_of_work() as uow:
                new_deliveries = await uow.claim_messages(self.name, deliveries, has_types=self._has_types)
                failpoint.hit("inbox.after_claim")
                if len(new_deliveries) < len(deliveries):
                    self._duplicates.inc(len(deliveries) - len(new_deliveries))
                await self._call_handler(uow, new_deliveries)
                failpoint.hit("handler.before_commit")
            failpoint.hit("handler.after_commit_before_ack")

    @contextmanager
    def _observe(self, deliveries: Sequence[Delivery[Any]]) -> Iterator[None]:
        """The span of these messages, and what lines of the log say meanwhile."""
        token = telemetry.handled_messages.set(HandledMessages(self._key_field, deliveries))
        try:
            with self._start_span(deliveries):
                yield
                if telemetry.is_exporting_logs():
                    telemetry.export_summary(
                        "messages handled",
                        self.context.service,
                        telemetry.traceparent.get(),
                        {
                            "channel": self.consumer.subscription.channel,
                            "messages": len(deliveries),
                            **summarize_messages(self._key_field, deliveries),
                        },
                    )
        finally:
            telemetry.handled_messages.reset(token)

    def _start_span(self, deliveries: Sequence[Delivery[Any]]) -> AbstractContextManager[object]:
        parent = deliveries[0].traceparent
        if telemetry.is_recording():
            return self._start_recorded_span(deliveries, parent)
        return telemetry.start_span(self._span_name, SpanKind.CONSUMER, parent=parent)

    @contextmanager
    def _start_recorded_span(self, deliveries: Sequence[Delivery[Any]], parent: str | None) -> Iterator[None]:
        """The maker of the first message is its parent; it links to those of all of a batch, which may be few, and to
        the first attempt that failed.
        """
        attributes: dict[str, str | int] = {"messaging.batch.message_count": len(deliveries)}
        links: list[str | None] = []
        traces: list[str | None] = []
        if len(deliveries) == 1:
            delivery = deliveries[0]
            attributes = {"messaging.message.id": str(delivery.id), self._key_attribute: delivery.key}
            if delivery.attempt > 1:
                attributes["caravan.message.attempt"] = delivery.attempt
        else:
            links += [telemetry.find_maker(d.id, d.traceparent, d.tracestate) for d in deliveries]
            traces += [delivery.traceparent for delivery in deliveries]
        if self._failed_attempts:
            links += [self._failed_attempts.get(delivery.id) for delivery in deliveries]
        with telemetry.start_span(
            self._span_name, SpanKind.CONSUMER, parent=parent, links=links, attributes=attributes, traces=traces
        ):
            try:
                yield
            except Exception:
                for delivery in deliveries:
                    self._failed_attempts.setdefault(delivery.id, telemetry.traceparent.get() or "")
                raise

    async def _call_handler(self, uow: UnitOfWork, new_deliveries: list[Delivery[Any]]) -> None:
        if self.consumer.is_batch:
            if new_deliveries:
                await self.consumer.handler(self.context, uow, new_deliveries)
            return
        handled = telemetry.handled_messages.get()
        assert handled is not None
        for delivery in new_deliveries:
            token = current_message.set(delivery)
            handled.current = delivery
            try:
                await self.consumer.handler(self.context, uow, delivery)
            finally:
                current_message.reset(token)
        handled.current = None

    async def _run_effects(self, deliveries: list[tuple[int, Delivery[Any]]], outcomes: list[HandlingResult]) -> None:
        if (
            self.consumer.is_batch
            and len(deliveries) > 1
            and await self._run_effect_batch([delivery for _, delivery in deliveries])
        ):
            return
        by_key: dict[str, list[tuple[int, Delivery[Any]]]] = {}
        for index, delivery in deliveries:
            by_key.setdefault(delivery.key, []).append((index, delivery))

        async def run_in_order(key_deliveries: list[tuple[int, Delivery[Any]]]) -> None:
            is_blocked = False
            for index, delivery in key_deliveries:
                if is_blocked:
                    outcomes[index] = HandlingResult(Result.BLOCKED)
                    continue
                token = current_message.set(delivery)
                try:
                    outcomes[index] = await self._await_outcome(delivery, self._run_effect(delivery))
                finally:
                    current_message.reset(token)
                is_blocked = outcomes[index].result is Result.RETRY

        await map_concurrently(run_in_order, by_key.values(), EFFECTS_IN_FLIGHT)

    async def _run_effect(self, delivery: Delivery[Any]) -> None:
        with self._observe([delivery]):
            await self.consumer.handler(self.context, [delivery] if self.consumer.is_batch else delivery)

    async def _run_effect_batch(self, deliveries: list[Delivery[Any]]) -> bool:
        try:
            with self._observe(deliveries):
                await self.consumer.handler(self.context, deliveries)
            return True
        except CONNECTION_LOST:
            raise
        except Exception as error:  # whatever it was, each message now runs alone and shows whose fault it is
            log.info(
                "batch split", channel=self.consumer.subscription.channel, messages=len(deliveries), error=repr(error)
            )
            return False

    async def _await_outcome(self, delivery: Delivery[Any], handling: Awaitable[None]) -> HandlingResult:
        telemetry.handled_messages.set(HandledMessages(self._key_field, (delivery,)))
        try:
            await handling
            return DONE
        except CONNECTION_LOST:
            raise
        except MessageRejected as error:
            log.warning(
                "message rejected",
                channel=self.consumer.subscription.channel,
                key=delivery.key,
                message_id=str(delivery.id),
                reason=str(error),
            )
            return HandlingResult(Result.DEAD, str(error))
        except Exception as error:
            log.warning(
                "message failed",
                channel=self.consumer.subscription.channel,
                key=delivery.key,
                message_id=str(delivery.id),
                attempt=delivery.attempt,
                exc_info=error,
            )
            return HandlingResult(Result.RETRY, f"{type(error).__name__}: {error}")
        finally:
            telemetry.handled_messages.set(None)


def _get_key_name(source: Source) -> str:
    return source.exchange.key if isinstance(source, Binding) else source.key
