"""Handles each message once: a batch is claimed, handled and committed in one unit of work, with the messages that its
handler emits.

When a handler fails, the batch is rolled back and its messages run one by one, so that a message that can't be handled
fails alone. The bus calls `Inbox.process_batch`; `caravan/consumers.py` declares the handlers.
"""

from collections.abc import Awaitable, Sequence
from typing import Any

from opentelemetry.trace import SpanKind

from caravan import failpoint, telemetry
from caravan.bus import DONE, HandlingResult, IncomingMessage, Result
from caravan.concurrency import map_concurrently
from caravan.consumers import Consumer
from caravan.database import CONNECTION_LOST, UnitOfWork, current_message
from caravan.errors import MessageRejected
from caravan.messages import Delivery, MalformedMessage, Queue, decode_message
from caravan.service import ServiceContext
from caravan.telemetry import log, metrics

EFFECTS_IN_FLIGHT = 32


class Inbox:
    """Runs the batches of one consumer."""

    def __init__(self, consumer: Consumer, context: ServiceContext[Any, Any]) -> None:
        self.consumer = consumer
        self.context = context
        self.name = consumer.subscription.name
        service, channel = consumer.subscription.service, consumer.subscription.channel
        self._span_name = f"process {channel}"
        self._duplicates = metrics.INBOX_DUPLICATES.labels(service, channel)
        self._has_types = len(consumer.accepted_types) > 1
        self._shared = not isinstance(consumer.subscription.source, Queue)

    async def process_batch(self, batch: list[IncomingMessage]) -> list[HandlingResult]:
        telemetry.service_name.set(self.context.service)
        outcomes: list[HandlingResult] = [DONE] * len(batch)
        deliveries: list[tuple[int, Delivery[Any]]] = []
        for index, incoming in enumerate(batch):
            try:
                if not incoming.key:
                    raise MalformedMessage("no key: its order can't be kept")
                delivery = decode_message(
                    incoming.body, self.consumer.accepted_types, attempt=incoming.attempt, shared=self._shared
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
        return outcomes

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
        first = deliveries[0]
        with telemetry.start_span(
            self._span_name,
            SpanKind.CONSUMER,
            parent=first.traceparent,
            links=[d.traceparent for d in deliveries if d.traceparent] if len(deliveries) > 1 else None,
        ):
            async with self.context.database.unit_of_work() as uow:
                claimed_ids = await uow.claim_messages(self.name, deliveries, has_types=self._has_types)
                failpoint.hit("inbox.after_claim")
                new_deliveries: list[Delivery[Any]] = []
                for delivery in deliveries:
                    if delivery.id in claimed_ids:
                        claimed_ids.discard(delivery.id)
                        new_deliveries.append(delivery)
                if len(new_deliveries) < len(deliveries):
                    self._duplicates.inc(len(deliveries) - len(new_deliveries))
                await self._call_handler(uow, new_deliveries)
                failpoint.hit("handler.before_commit")
            failpoint.hit("handler.after_commit_before_ack")

    async def _call_handler(self, uow: UnitOfWork, new_deliveries: list[Delivery[Any]]) -> None:
        if self.consumer.is_batch:
            if new_deliveries:
                await self.consumer.handler(self.context, uow, new_deliveries)
            return
        for delivery in new_deliveries:
            token = current_message.set(delivery)
            try:
                await self.consumer.handler(self.context, uow, delivery)
            finally:
                current_message.reset(token)

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
                    with telemetry.start_span(self._span_name, SpanKind.CONSUMER, parent=delivery.traceparent):
                        outcomes[index] = await self._await_outcome(
                            delivery,
                            self.consumer.handler(self.context, [delivery] if self.consumer.is_batch else delivery),
                        )
                finally:
                    current_message.reset(token)
                is_blocked = outcomes[index].result is Result.RETRY

        await map_concurrently(run_in_order, by_key.values(), EFFECTS_IN_FLIGHT)

    async def _run_effect_batch(self, deliveries: list[Delivery[Any]]) -> bool:
        links = [d.traceparent for d in deliveries if d.traceparent]
        try:
            with telemetry.start_span(
                self._span_name, SpanKind.CONSUMER, parent=deliveries[0].traceparent, links=links
            ):
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
