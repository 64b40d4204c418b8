"""Six services of the shop without a process around them: their real consumers, inboxes, outboxes and sweepers on
a real Postgres, over a bus that only collects and a clock that only the driver moves.
"""

import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, cast
from unittest.mock import patch
from uuid import UUID

from caravan import environment, failpoint, inbox
from caravan.bus import Bus, Subscription
from caravan.concurrency import DataLoader
from caravan.consumers import Consumer
from caravan.database import Database, UnitOfWork
from caravan.errors import ServiceUnavailable
from caravan.inbox import Inbox
from caravan.leadership import Leadership
from caravan.messages import Binding, Delivery, OutgoingMessage, build_routing_regex
from caravan.money import Money
from caravan.outbox import OutboxRelay, relay
from caravan.runtime import Backends, list_consumers, run_migrations
from caravan.service import Service, ServiceContext
from services.catalog.client import GET_OFFERS, Offer, Offers
from services.identity.client import GET_CUSTOMER_STATUS, CustomerStatus
from services.inventory.client import GET_AVAILABILITY
from services.inventory.use_cases import InventoryResources, read, release
from services.orders.use_cases import CustomerStatusCache, OrdersResources, place
from services.orders.use_cases import read as orders_read
from services.payments.client import HOLD_CAPTURE
from services.payments.use_cases import PaymentsResources, charge, refund
from services.processing.use_cases import resend_overdue
from services.registry import load_services
from services.shipping.providers.simulated import SimulatedCarrier
from services.shipping.use_cases import ShippingResources, dispatch_parcels, poll_deliveries
from tests.simulation.stand_ins import Crashes, FakeClock, InboxLog, MoodyProvider, SimulatedBus, SimulatedJobs

NAMES = ("orders", "processing", "inventory", "payments", "shipping", "notifications")
PRICE = 990
RUNS = itertools.count(1)
"""Several runs of a seed have orders of their own in the databases."""
MAX_CONNECTIONS = 4

next_order_id: ContextVar[UUID] = ContextVar("next_order_id")
unavailable: ContextVar[frozenset[str]] = ContextVar("unavailable", default=frozenset())
"""The services that don't answer the request under way."""


@dataclass
class Reader:
    """One subscription, with the handler that it really has. `doomed`: message ids whose handling fails at its end."""

    subscription: Subscription
    inbox: Inbox
    doomed: set[UUID] = field(default_factory=set)

    @classmethod
    def build(cls, consumer: Consumer, context: ServiceContext[Any, Any]) -> "Reader":
        reader = cls(consumer.subscription, cast(Inbox, None))
        reader.inbox = Inbox(replace(consumer, handler=partial(reader._handle, consumer.handler)), context)
        return reader

    async def _handle(self, handler: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        await handler(*arguments)
        deliveries: Sequence[Delivery[Any]] = arguments[-1] if isinstance(arguments[-1], list) else [arguments[-1]]
        if self.doomed and any(delivery.id in self.doomed for delivery in deliveries):
            raise RuntimeError("the handler fails before its commit")

    def carries(self, message: OutgoingMessage) -> bool:
        if message.channel != self.subscription.channel:
            return False
        source = self.subscription.source
        return not isinstance(source, Binding) or any(
            re.match(build_routing_regex(pattern), message.routing_key) for pattern in source.patterns
        )


@dataclass
class SimulatedShop:
    """`sweeps`: the periodic tasks that move orders, each to be run until it has nothing more to do."""

    contexts: dict[str, ServiceContext[Any, Any]]
    readers: list[Reader]
    clock: FakeClock
    bus: SimulatedBus
    jobs: SimulatedJobs
    provider: MoodyProvider
    crashes: Crashes
    inbox_log: InboxLog = field(default_factory=InboxLog)
    relays: dict[str, OutboxRelay] = field(default_factory=dict)

    @property
    def sweeps(self) -> Mapping[str, Callable[[], Awaitable[bool]]]:
        contexts = self.contexts
        return {
            "resend-overdue": partial(resend_overdue, contexts["processing"]),
            "release-expired": partial(release.release_expired_reservations, contexts["inventory"]),
            "captures": partial(charge.resume_captures, contexts["payments"]),
            "refunds": partial(refund.make_due_refunds, contexts["payments"]),
            "dispatch-parcels": partial(dispatch_parcels, contexts["shipping"]),
            "poll-deliveries": partial(poll_deliveries, contexts["shipping"]),
            "project-orders": partial(orders_read.update_projection, contexts["orders"]),
        }

    def restart_relay(self, service: str) -> None:
        self.relays[service] = OutboxRelay(self.contexts[service].database, cast(Bus, self.bus), cast(Leadership, None))


class _Silent:
    """Takes hints that nobody waits for."""

    async def publish(self, *_: object) -> None:
        return None


@asynccontextmanager
async def open_shop(backends: Backends) -> AsyncIterator[SimulatedShop]:
    """The six services, each with its databases."""
    services = load_services(NAMES)
    await run_migrations(services, backends)
    clock, bus, jobs, crashes = FakeClock(), SimulatedBus(), SimulatedJobs(), Crashes()
    contexts: dict[str, ServiceContext[Any, Any]] = {}
    async with AsyncExitStack() as stack:
        for service in services:
            databases = {}
            for declared in service.databases:
                url = backends.get_database_url(declared.name)
                database = await Database.open(declared.name, url, size=MAX_CONNECTIONS, clock=clock)
                databases[declared.name] = database
                stack.push_async_callback(database.close)
            contexts[service.name] = _build_context(service, databases, clock, jobs, contexts)
        provider = MoodyProvider(contexts["payments"].database)
        _open_resources(contexts, provider, clock)
        # What one look at the outbox takes must not depend on how many schedules run beside each other.
        stack.enter_context(patch.object(relay, "_BATCH_SIZE", 100_000))
        stack.enter_context(patch.object(failpoint, "hit", crashes.hit))
        stack.enter_context(patch.object(place, "new_id", next_order_id.get))
        readers = [
            Reader.build(consumer, contexts[service.name])
            for service in services
            for consumer in list_consumers(service)
        ]
        shop = SimulatedShop(contexts, readers, clock, bus, jobs, provider, crashes)
        stack.enter_context(patch.object(inbox, "log", shop.inbox_log))
        for name in NAMES:
            shop.restart_relay(name)
        yield shop


def _build_context(
    service: Service,
    databases: dict[str, Database],
    clock: FakeClock,
    jobs: SimulatedJobs,
    contexts: dict[str, ServiceContext[Any, Any]],
) -> ServiceContext[Any, Any]:
    fields: dict[str, Any] = dict.fromkeys(ServiceContext.__dataclass_fields__)
    fields |= {
        "service": service.name,
        "settings": environment.load_class(service.settings) if service.settings else None,
        "database": next(iter(databases.values())),
        "databases": databases,
        "call": partial(_call, contexts),
        "changes": _Silent(),
        "clock": clock,
        "wake": lambda _: None,
        "jobs": jobs,
    }
    return ServiceContext(**fields)


def _open_resources(contexts: dict[str, ServiceContext[Any, Any]], provider: MoodyProvider, clock: FakeClock) -> None:
    orders, inventory = contexts["orders"], contexts["inventory"]
    orders.resources = OrdersResources(
        CustomerStatusCache(orders.call, clock, orders.settings.customer_status_seconds),
        cast(Any, None),
        cast(Any, None),
    )
    inventory.resources = InventoryResources(
        DataLoader(partial(read.fetch_availability, inventory.database)), cast(Any, None)
    )
    contexts["payments"].resources = PaymentsResources(provider, cast(Any, None))
    delivery = timedelta(seconds=contexts["shipping"].settings.delivery_seconds)
    contexts["shipping"].resources = ShippingResources(SimulatedCarrier(delivery, clock))


async def _call(contexts: dict[str, ServiceContext[Any, Any]], operation: Any, request: Any) -> Any:
    """What services ask each other while an order is placed or cancelled."""
    if operation.service in unavailable.get():
        raise ServiceUnavailable(f"{operation.service} does not answer")
    if operation is GET_CUSTOMER_STATUS:
        user = request.user_id
        return CustomerStatus(user_id=user, email=f"{user}@example.com", name="Ada", role="customer", active=True)
    if operation is GET_OFFERS:
        price = Money(amount=PRICE, currency="GBP")
        return Offers(offers=[Offer(sku=sku, name=sku, category="mugs", price=price) for sku in request.skus])
    if operation is GET_AVAILABILITY:
        return await read.get_availability(contexts["inventory"], request)
    assert operation is HOLD_CAPTURE, operation
    return await refund.hold_capture(contexts["payments"], request)


async def run_in_unit_of_work(database: Database, work: Callable[[UnitOfWork], Awaitable[object]]) -> None:
    async with database.unit_of_work() as uow:
        await work(uow)
