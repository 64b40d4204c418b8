"""Consume once: a batch of messages is claimed, handled and committed in one unit of work, with the messages that the handlers emit.

When a handler fails, the batch is rolled back and its messages run one by one, so that a poison message hurts only itself.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from opentelemetry.trace import SpanKind

from caravan import crash, telemetry
from caravan.bus import DONE, Incoming, Outcome, Result, Subscription
from caravan.database import CONNECTION_LOST, UnitOfWork, cause
from caravan.errors import Reject
from caravan.messages import Binding, Delivery, Malformed, Message, Queue, Source, Topic, decode
from caravan.service import Context
from caravan.telemetry import log

Handler = Callable[..., Awaitable[None]]
H = TypeVar("H", bound=Handler)

EFFECTS_IN_FLIGHT = 32


@dataclass(frozen=True, slots=True)
class Consumer:
    """A handler and what it reads. `many`: it takes the list of a batch. `effect`: it calls a third party, so it opens its own units of work."""

    subscription: Subscription
    handler: Handler
    accepted: dict[str, type[Message]]
    many: bool
    effect: bool


@dataclass(slots=True)
class Consumers:
    """The message door of a service: `consume = Consumers("orders")`, then `@consume(CHANNEL)` over each handler.

    A handler is `async def name(context, work, delivery: Delivery[SomeEvent])`, or takes `deliveries: list[Delivery[SomeEvent]]` where one statement can
    serve all. With `@consume.effect(CHANNEL)` it is `async def name(context, delivery)`: it runs outside a transaction, several keys at once, may run
    again for the same message, and must claim the message in the unit of work that records the result. An effect may take the list of a batch, too: it makes
    its calls at once, settles each failed one itself, and when it raises, its messages run one by one, each as a list of one.
    """

    service: str
    linger: float = 0.05
    """For all channels of the service; a service that nobody waits for may take more and spend less."""
    declared: list[Consumer] = field(default_factory=list)

    def __call__(self, source: Source, *, batch: int = 100) -> Callable[[H], H]:
        return self._declare(source, batch, effect=False)

    def effect(self, source: Source, *, batch: int = 100) -> Callable[[H], H]:
        return self._declare(source, batch, effect=True)

    def _declare(self, source: Source, batch: int, *, effect: bool) -> Callable[[H], H]:
        def register(handler: H) -> H:
            last = list(inspect.signature(handler).parameters)[-1]
            hint = get_type_hints(handler)[last]
            many = get_origin(hint) is list
            self.declared.append(Consumer(Subscription(self.service, source, batch, self.linger), handler, _accepted(source), many, effect))
            return handler

        return register


def _accepted(source: Source) -> dict[str, type[Message]]:
    match source:
        case Topic(events=kinds):
            return {kind.type: kind for kind in kinds}
        case Queue(commands=commands):
            return {kind.type: kind for kind in commands}
        case Binding(exchange=exchange):
            return {kind.type: kind for kind in exchange.routes.values()}


def message_types(handler: Handler) -> tuple[Any, ...]:
    """The message classes in a handler's signature, for the generated documentation."""
    hint = list(get_type_hints(handler).values())[-1]
    return get_args(hint)


class Inbox:
    """Runs the batches of one consumer."""

    def __init__(self, consumer: Consumer, context: Context[Any, Any]) -> None:
        self.consumer = consumer
        self.context = context
        self.name = consumer.subscription.name
        service, channel = consumer.subscription.service, consumer.subscription.channel
        self._span = f"process {channel}"
        self._duration = telemetry.HANDLER_DURATION.labels(service, channel)
        self._size = telemetry.BATCH_SIZE.labels(service, channel)
        self._duplicates = telemetry.DUPLICATES.labels(service, channel)
        self._handled = {result: telemetry.HANDLED.labels(service, channel, result.value) for result in Result}
        self._done = self._handled[Result.DONE]
        self._shared = not isinstance(consumer.subscription.source, Queue)

    async def process(self, batch: list[Incoming]) -> list[Outcome]:
        started = time.perf_counter()
        telemetry.service_name.set(self.context.service)
        outcomes: list[Outcome] = [DONE] * len(batch)
        deliveries: list[tuple[int, Delivery[Any]]] = []
        for place, incoming in enumerate(batch):
            try:
                if not incoming.key:
                    raise Malformed("no key: its order can't be kept")
                deliveries.append((place, decode(incoming.body, self.consumer.accepted, attempt=incoming.attempt, shared=self._shared)))
            except Malformed as error:
                outcomes[place] = Outcome(Result.DEAD, str(error))
                log.warning("message refused", channel=self.consumer.subscription.channel, key=incoming.key, reason=str(error))
        if deliveries:
            run = self._effects if self.consumer.effect else self._transactions
            await run(deliveries, outcomes)
        self._duration.observe(time.perf_counter() - started)
        self._size.observe(len(batch))
        self._done.inc(sum(outcome is DONE for outcome in outcomes))
        for outcome in outcomes:
            if outcome is not DONE:
                self._handled[outcome.result].inc()
        return outcomes

    async def _transactions(self, deliveries: list[tuple[int, Delivery[Any]]], outcomes: list[Outcome]) -> None:
        if len(deliveries) > 1:
            try:
                await self._together([delivery for _, delivery in deliveries])
                return
            except CONNECTION_LOST:
                raise
            except Exception as error:  # whatever it was, each message now runs alone and shows whose fault it is
                log.info("batch split", channel=self.consumer.subscription.channel, messages=len(deliveries), error=repr(error))
        failed: set[str] = set()
        for place, delivery in deliveries:
            if delivery.key in failed:
                outcomes[place] = Outcome(Result.HELD)
                continue
            outcome = outcomes[place] = await self._alone(delivery, self._together([delivery]))
            if outcome.result is Result.RETRY:
                failed.add(delivery.key)

    async def _together(self, deliveries: Sequence[Delivery[Any]]) -> None:
        first = deliveries[0]
        with telemetry.span(
            self._span,
            SpanKind.CONSUMER,
            parent=first.traceparent,
            links=[d.traceparent for d in deliveries if d.traceparent] if len(deliveries) > 1 else None,
        ):
            async with self.context.database.work() as work:
                new = await work.claim(self.name, [delivery.id for delivery in deliveries])
                crash.point("inbox.after_claim")
                fresh: list[Delivery[Any]] = []
                for delivery in deliveries:
                    if delivery.id in new:
                        new.discard(delivery.id)
                        fresh.append(delivery)
                if len(fresh) < len(deliveries):
                    self._duplicates.inc(len(deliveries) - len(fresh))
                await self._handle(work, fresh)
                crash.point("handler.before_commit")
            crash.point("handler.after_commit_before_ack")

    async def _handle(self, work: UnitOfWork, fresh: list[Delivery[Any]]) -> None:
        if self.consumer.many:
            if fresh:
                await self.consumer.handler(self.context, work, fresh)
            return
        for delivery in fresh:
            token = cause.set(delivery)
            try:
                await self.consumer.handler(self.context, work, delivery)
            finally:
                cause.reset(token)

    async def _effects(self, deliveries: list[tuple[int, Delivery[Any]]], outcomes: list[Outcome]) -> None:
        if self.consumer.many and len(deliveries) > 1 and await self._effects_at_once([delivery for _, delivery in deliveries]):
            return
        by_key: dict[str, list[tuple[int, Delivery[Any]]]] = {}
        for place, delivery in deliveries:
            by_key.setdefault(delivery.key, []).append((place, delivery))
        room = asyncio.Semaphore(EFFECTS_IN_FLIGHT)

        async def in_order(of_key: list[tuple[int, Delivery[Any]]]) -> None:
            async with room:
                waiting = False
                for place, delivery in of_key:
                    if waiting:
                        outcomes[place] = Outcome(Result.HELD)
                        continue
                    token = cause.set(delivery)
                    try:
                        with telemetry.span(self._span, SpanKind.CONSUMER, parent=delivery.traceparent):
                            outcomes[place] = await self._alone(
                                delivery, self.consumer.handler(self.context, [delivery] if self.consumer.many else delivery)
                            )
                    finally:
                        cause.reset(token)
                    waiting = outcomes[place].result is Result.RETRY

        async with asyncio.TaskGroup() as group:
            for of_key in by_key.values():
                group.create_task(in_order(of_key))

    async def _effects_at_once(self, deliveries: list[Delivery[Any]]) -> bool:
        links = [d.traceparent for d in deliveries if d.traceparent]
        try:
            with telemetry.span(self._span, SpanKind.CONSUMER, parent=deliveries[0].traceparent, links=links):
                await self.consumer.handler(self.context, deliveries)
            return True
        except CONNECTION_LOST:
            raise
        except Exception as error:  # whatever it was, each message now runs alone and shows whose fault it is
            log.info("batch split", channel=self.consumer.subscription.channel, messages=len(deliveries), error=repr(error))
            return False

    async def _alone(self, delivery: Delivery[Any], handling: Awaitable[None]) -> Outcome:
        try:
            await handling
            return DONE
        except CONNECTION_LOST:
            raise
        except Reject as error:
            log.warning(
                "message rejected",
                channel=self.consumer.subscription.channel,
                key=delivery.key,
                message_id=str(delivery.id),
                reason=str(error),
            )
            return Outcome(Result.DEAD, str(error))
        except Exception as error:
            log.warning(
                "message failed",
                channel=self.consumer.subscription.channel,
                key=delivery.key,
                message_id=str(delivery.id),
                attempt=delivery.attempt,
                exc_info=error,
            )
            return Outcome(Result.RETRY, f"{type(error).__name__}: {error}")
