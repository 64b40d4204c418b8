"""Declares which messages a service consumes: `@consume(CHANNEL)` over a handler makes a `Consumer` for each channel.

The messages that a handler's annotation names are compared with those that its channels carry when the service is
loaded, so that a process with a wrong declaration does not start. `caravan/inbox.py` runs the handlers.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from caravan.bus import Subscription
from caravan.database import UnitOfWork
from caravan.messages import (
    Binding,
    Channel,
    Delivery,
    Message,
    Source,
    build_routing_regex,
    list_message_types,
)

Handler = Callable[..., Awaitable[None]]
TransactionHandler = TypeVar("TransactionHandler", bound=Callable[[Any, UnitOfWork, Any], Awaitable[None]])
EffectHandler = TypeVar("EffectHandler", bound=Callable[[Any, Any], Awaitable[None]])
MessageTypes = tuple[type[Message], ...]


@dataclass(frozen=True, slots=True)
class Consumer:
    """A handler and one channel that it reads.

    `accepted_types`: what is read from the channel, by the type's name in the envelope; the handler is not called with
    the `ignored_types` among them. `is_batch`: it takes the list of a batch. `is_effect`: it calls a third party, so it
    opens its own units of work.
    """

    subscription: Subscription
    handler: Handler
    accepted_types: dict[str, type[Message]]
    ignored_types: MessageTypes
    is_batch: bool
    is_effect: bool


@dataclass(slots=True)
class Consumers:
    """The consumers of a service: `consume = Consumers("orders")`, then `@consume(CHANNEL, ...)` over each handler.

    A handler is `async def name(context, uow, delivery: Delivery[SomeEvent | OtherEvent])`, or takes `deliveries:
    list[Delivery[SomeEvent]]` where one statement can serve all. It names every message that its channels carry. What
    it leaves out on purpose stands in `ignores` and counts as handled.

    With `@consume.effect(CHANNEL)` it is `async def name(context, delivery)`: it runs outside a transaction, several
    keys at once, may run again for the same message, and must claim the message in the unit of work that records the
    result. An effect may take the list of a batch, too: it makes its calls at once, settles each failed one itself, and
    when it raises, its messages run one by one, each as a list of one.
    """

    service: str
    """Or the name of a consumer group in it (`Service.consumer_groups`)."""
    linger: float = 0.05
    """For all channels of the service; a service that nobody waits for may take more and spend less."""
    max_lag_seconds: float = 60.0
    """How old the oldest message that waits may be. Beyond it an alert fires: a page up to a minute, else a ticket."""
    handlers: list[Consumer] = field(default_factory=list)

    def __call__(
        self, *sources: Source, ignores: MessageTypes = (), batch: int = 100
    ) -> Callable[[TransactionHandler], TransactionHandler]:
        def register_handler(handler: TransactionHandler) -> TransactionHandler:
            self._add_consumers(handler, sources, ignores, batch, is_effect=False)
            return handler

        return register_handler

    def effect(
        self, *sources: Source, ignores: MessageTypes = (), batch: int = 100
    ) -> Callable[[EffectHandler], EffectHandler]:
        def register_handler(handler: EffectHandler) -> EffectHandler:
            self._add_consumers(handler, sources, ignores, batch, is_effect=True)
            return handler

        return register_handler

    def _add_consumers(
        self, handler: Handler, sources: Sequence[Source], ignores: MessageTypes, batch: int, *, is_effect: bool
    ) -> None:
        subscriptions = [
            Subscription(self.service, source, batch, self.linger, self.max_lag_seconds) for source in sources
        ]
        try:
            handled_types, is_batch = _read_annotation(handler)
            _check_types(handled_types, ignores, subscriptions)
            self._check_unread(subscriptions)
        except TypeError as error:
            raise TypeError(f"service {self.service}, handler {handler.__name__}: {error}") from None
        for subscription in subscriptions:
            declared_types = list_message_types(_get_channel(subscription.source))
            ignored_types = tuple(each for each in ignores if each in declared_types)
            accepted_types = {each.type: each for each in (*list_carried_types(subscription.source), *ignored_types)}
            self.handlers.append(Consumer(subscription, handler, accepted_types, ignored_types, is_batch, is_effect))

    def _check_unread(self, subscriptions: Sequence[Subscription]) -> None:
        names = {consumer.subscription.name for consumer in self.handlers}
        for subscription in subscriptions:
            if subscription.name in names:
                raise TypeError(f"{subscription.channel} has a handler already")
            names.add(subscription.name)


def list_carried_types(source: Source) -> MessageTypes:
    """The messages that reach a reader: of an exchange only those whose routing keys its patterns match."""
    if not isinstance(source, Binding):
        return list_message_types(source)
    patterns = [re.compile(build_routing_regex(pattern)) for pattern in source.patterns]
    return tuple(
        event for key, event in source.exchange.routes.items() if any(pattern.match(key) for pattern in patterns)
    )


def _get_channel(source: Source) -> Channel:
    return source.exchange if isinstance(source, Binding) else source


def _read_annotation(handler: Handler) -> tuple[MessageTypes, bool]:
    """The message classes in the annotation of a handler's last parameter, and whether it takes a list of them."""
    last_parameter = list(inspect.signature(handler).parameters)[-1]
    hint: Any = get_type_hints(handler).get(last_parameter)
    is_batch = get_origin(hint) is list
    delivery: Any = get_args(hint)[0] if is_batch else hint
    if get_origin(delivery) is not Delivery:
        raise TypeError(f"its last parameter is {hint}; expected Delivery[...] or list[Delivery[...]]")
    content: Any = get_args(delivery)[0]
    handled_types = get_args(content) if get_origin(content) in (Union, UnionType) else (content,)
    for each in handled_types:
        if not (isinstance(each, type) and issubclass(each, Message)):
            raise TypeError(f"its Delivery[...] names {each}, which is no class of messages")
    return handled_types, is_batch


def _check_types(handled_types: MessageTypes, ignores: MessageTypes, subscriptions: Sequence[Subscription]) -> None:
    """A class that is handled stands for those made from it, too."""
    channels = ", ".join(subscription.channel for subscription in subscriptions)
    carried_types = {each: reader.channel for reader in subscriptions for each in list_carried_types(reader.source)}
    for each, channel in carried_types.items():
        if each not in ignores and not issubclass(each, handled_types):
            raise TypeError(f"{channel} carries {each.type}, which it does not take")
    for each in handled_types:
        if not any(issubclass(carried, each) for carried in carried_types if carried not in ignores):
            raise TypeError(f"it takes {each.type}, which none of its channels carries ({channels})")
    declared_types = {each for reader in subscriptions for each in list_message_types(_get_channel(reader.source))}
    for each in ignores:
        if each not in declared_types:
            raise TypeError(f"it ignores {each.type}, which none of its channels declares ({channels})")
