"""Consume once: a batch of messages is claimed, handled and committed in one unit of work, with the messages that the
handlers emit.

When a handler fails, the batch is rolled back and its messages run one by one, so that a poison message hurts only
itself.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from opentelemetry.trace import SpanKind

from caravan import failpoint, telemetry
from caravan.bus import DONE, HandlingResult, IncomingMessage, Result, Subscription
from caravan.database import CONNECTION_LOST, UnitOfWork, current_message
from caravan.errors import MessageRejected
from caravan.messages import Binding, Delivery, MalformedMessage, Message, Queue, Source, Topic, decode_message
from caravan.service import ServiceContext
from caravan.telemetry import log, metrics

Handler = Callable[..., Awaitable[None]]
H = TypeVar("H", bound=Handler)

EFFECTS_IN_FLIGHT = 32


@dataclass(frozen=True, slots=True)
class Consumer:
    """A handler and what it reads. `many`: it takes the list of a batch. `effect`: it calls a third party, so it opens
    its own units of work.
    """

    subscription: Subscription
    handler: Handler
    accepted_types: dict[str, type[Message]]
    is_batch: bool
    is_effect: bool


@dataclass(slots=True)
class Consumers:
    """The message door of a service: `consume = Consumers("orders")`, then `@consume(CHANNEL)` over each handler.

    A handler is `async def name(context, work, delivery: Delivery[SomeEvent])`, or takes `deliveries:
    list[Delivery[SomeEvent]]` where one statement can
    serve all. With `@consume.effect(CHANNEL)` it is `async def name(context, delivery)`: it runs outside a transaction,
    several keys at once, may run
    again for the same message, and must claim the message in the unit of work that records the result. An effect may
    take the list of a batch, too: it makes
    its calls at once, settles each failed one itself, and when it raises, its messages run one by one, each as a list
    of one.
    """

    service: str
    linger: float = 0.05
    """For all channels of the service; a service that nobody waits for may take more and spend less."""
    handlers: list[Consumer] = field(default_factory=list)

    def __call__(self, source: Source, *, batch: int = 100) -> Callable[[H], H]:
        return self._make_decorator(source, batch, is_effect=False)

    def effect(self, source: Source, *, batch: int = 100) -> Callable[[H], H]:
        return self._make_decorator(source, batch, is_effect=True)

    def _make_decorator(self, source: Source, batch: int, *, is_effect: bool) -> Callable[[H], H]:
        def register_handler(handler: H) -> H:
            last = list(inspect.signature(handler).parameters)[-1]
            hint = get_type_hints(handler)[last]
            is_batch = get_origin(hint) is list
            self.handlers.append(
                Consumer(
                    Subscription(self.service, source, batch, self.linger),
                    handler,
                    _list_accepted_types(source),
                    is_batch,
                    is_effect,
                )
            )
            return handler

        return register_handler


def _list_accepted_types(source: Source) -> dict[str, type[Message]]:
    match source:
        case Topic(events=kinds):
            return {kind.type: kind for kind in kinds}
        case Queue(commands=commands):
            return {kind.type: kind for kind in commands}
        case Binding(exchange=exchange):
            return {kind.type: kind for kind in exchange.routes.values()}


def list_message_types(handler: Handler) -> tuple[Any, ...]:
    """The message classes in a handler's signature, for the generated documentation."""
    hint = list(get_type_hints(handler).values())[-1]
    return get_args(hint)


class Inbox:
    """Runs the batches of one consumer."""

    def __init__(self, consumer: Consumer, context: ServiceContext[Any, Any]) -> None:
        self.consumer = consumer
        self.context = context
        self.name = consumer.subscription.name
        service, channel = consumer.subscription.service, consumer.subscription.channel
        self._span_name = f"process {channel}"
        self._duration = metrics.HANDLER_DURATION.labels(service, channel)
        self._batch_size = metrics.BATCH_SIZE.labels(service, channel)
        self._duplicates = metrics.INBOX_DUPLICATES.labels(service, channel)
        self._result_counters = {
            result: metrics.MESSAGES_HANDLED.labels(service, channel, result.value) for result in Result
        }
        self._done_counter = self._result_counters[Result.DONE]
        self._shared = not isinstance(consumer.subscription.source, Queue)

    async def process_batch(self, batch: list[IncomingMessage]) -> list[HandlingResult]:
        started_at = time.perf_counter()
        telemetry.service_name.set(self.context.service)
        outcomes: list[HandlingResult] = [DONE] * len(batch)
        deliveries: list[tuple[int, Delivery[Any]]] = []
        for index, incoming in enumerate(batch):
            try:
                if not incoming.key:
                    raise MalformedMessage("no key: its order can't be kept")
                deliveries.append(
                    (
                        index,
                        decode_message(
                            incoming.body, self.consumer.accepted_types, attempt=incoming.attempt, shared=self._shared
                        ),
                    )
                )
            except MalformedMessage as error:
                outcomes[index] = HandlingResult(Result.DEAD, str(error))
                log.warning(
                    "message refused", channel=self.consumer.subscription.channel, key=incoming.key, reason=str(error)
                )
        if deliveries:
            run = self._run_effects if self.consumer.is_effect else self._run_transactions
            await run(deliveries, outcomes)
        self._duration.observe(time.perf_counter() - started_at)
        self._batch_size.observe(len(batch))
        self._done_counter.inc(sum(outcome is DONE for outcome in outcomes))
        for outcome in outcomes:
            if outcome is not DONE:
                self._result_counters[outcome.result].inc()
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
                claimed_ids = await uow.claim_messages(self.name, [delivery.id for delivery in deliveries])
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
        slots = asyncio.Semaphore(EFFECTS_IN_FLIGHT)

        async def run_in_order(key_deliveries: list[tuple[int, Delivery[Any]]]) -> None:
            async with slots:
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

        async with asyncio.TaskGroup() as group:
            for key_deliveries in by_key.values():
                group.create_task(run_in_order(key_deliveries))

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
