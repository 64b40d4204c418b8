"""The verbs of orders: place, cancel, record what others report; and the reads that wait for the read side."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from caravan import crash
from caravan.audit import audit
from caravan.auth import Caller
from caravan.client import Calls
from caravan.clock import Clock, made_at, new_id
from caravan.database import CONNECTION_LOST, UnitOfWork, VersionConflict
from caravan.errors import Conflict, DeadlineExceeded, Forbidden, Invalid, NotFound, Problem, Unavailable
from caravan.messages import Delivery, Event, MessageTooLarge
from caravan.service import Context
from caravan.telemetry import log
from services.catalog.client import OFFERS, OffersRequest
from services.identity.client import STANDING, Standing, StandingRequest
from services.inventory.client import AVAILABILITY, AvailabilityRequest
from services.orders import model, projections, store
from services.orders.client import OrderSummary, Owner, OwnerRequest, RecentOrders, RecentRequest
from services.orders.messages import ORDER_CANCELLED, ORDER_CREATED, ORDERS, Address, OrderCancellationRefused, OrderCancelled, OrderCreated
from services.orders.schemas import Accepted, PlaceOrder
from services.orders.settings import Settings
from services.payments.client import HOLD_CAPTURE, HoldRequest
from services.payments.messages import EXPECT, ExpectPayment, InvoiceLine
from services.processing.messages import CANCEL_ORDER, CancelOrder

Answer = TypeVar("Answer")

READ = "orders_read"
REMEMBERED = 10_000
JUST_NOW = timedelta(seconds=10)
ATTEMPTS = 5


class Standings:
    """Customers' standing, remembered for a few seconds: asked for each order, changed hardly ever."""

    def __init__(self, calls: Calls, clock: Clock, seconds: float) -> None:
        self._calls = calls
        self._clock = clock
        self._keep = timedelta(seconds=seconds)
        self._known: OrderedDict[UUID, tuple[Standing, datetime]] = OrderedDict()

    async def of(self, user_id: UUID) -> Standing:
        now = self._clock()
        known = self._known.get(user_id)
        if known and known[1] > now:
            return known[0]
        standing = await self._calls(STANDING, StandingRequest(user_id=user_id))
        self._known[user_id] = (standing, now + self._keep)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return standing


@dataclass(slots=True)
class Parts:
    """`room`: how many orders are placed at once; the others wait for their turn, so that accepting orders does not starve the work on those accepted."""

    standings: Standings
    room: asyncio.Semaphore


OrdersContext = Context[Settings, Parts]


async def place_order(
    context: OrdersContext, caller: Caller, order: PlaceOrder, answer: Callable[[UnitOfWork, Accepted], Answer]
) -> Answer:
    """Ask identity, catalog and inventory first, then store and announce the order in one statement. `answer` stores what the client is told with it."""
    skus = [line.sku for line in order.lines]
    standing, offers, available = await asyncio.gather(
        context.parts.standings.of(caller.user_id), context.calls(OFFERS, OffersRequest(skus=skus)), _available(context, skus)
    )
    if not standing.active:
        raise Forbidden("your account is disabled; it can't order")
    offered = {offer.sku: offer for offer in offers.offers}
    unknown = [{"field": f"lines.{place}.sku", "rule": f"{sku} is not for sale"} for place, sku in enumerate(skus) if sku not in offered]
    if unknown:
        raise Invalid(f"{len(unknown)} of the lines name products that are not for sale", errors=unknown[:50])
    _check_stock(order, available)
    created = model.place(
        new_id(),
        caller.user_id,
        standing.email,
        standing.name,
        [(model.Offered(o.sku, o.name, o.category, o.price), line.quantity) for line in order.lines if (o := offered[line.sku])],
        Address(**order.shipping_address.model_dump()),
        order.payment.method,
        context.clock(),
    )
    try:
        async with context.database.work() as work:
            work.append(created.order_id, 0, [created])
            work.emit(ORDER_CREATED, created, key=created.order_id)
            work.emit(ORDERS, created, key=created.order_id)
            work.emit(EXPECT, _payment(created, order.payment.token), key=created.order_id)
            told = answer(work, Accepted(id=created.order_id, version=1, total=created.total, placed_at=created.placed_at))
            crash.point("orders.place.before_commit")
    except MessageTooLarge:
        raise Invalid(
            f"{len(created.lines)} lines with names this long are more than one order can hold; order them as several",
            errors=[{"field": "lines", "rule": "their names and categories are too long together; send fewer lines"}],
        ) from None
    crash.point("orders.place.after_commit")
    context.nudge("project")
    return told


def _payment(order: OrderCreated, token: str) -> ExpectPayment:
    """What payments is told, and nobody else: the token is in no event."""
    address = order.shipping_address
    return ExpectPayment(
        order_id=order.order_id,
        user_id=order.user_id,
        email=order.email,
        customer_name=order.customer_name,
        amount=order.total,
        method=order.payment_method,
        token=token,
        lines=[InvoiceLine(sku=line.sku, name=line.name, quantity=line.quantity, unit_price=line.unit_price) for line in order.lines],
        billing_address="\n".join((address.name, address.street, f"{address.postcode} {address.city}", address.country)),
    )


async def _available(context: OrdersContext, skus: list[str]) -> dict[str, int] | None:
    """What is available of each sku; None when inventory is away or slow: then the saga decides, with a reservation as always."""
    try:
        answer = await context.calls(AVAILABILITY, AvailabilityRequest(skus=skus))
    except (Unavailable, DeadlineExceeded):
        return None
    return {stock.sku: stock.available for stock in answer.stock}


def _check_stock(order: PlaceOrder, available: dict[str, int] | None) -> None:
    """Refuse at once what can't be served now."""
    if available is None:
        return
    short = [
        {"field": f"lines.{place}.quantity", "rule": f"{line.quantity} of {line.sku} wanted, {available.get(line.sku, 0)} available"}
        for place, line in enumerate(order.lines)
        if available.get(line.sku, 0) < line.quantity
    ]
    if short:
        raise OutOfStock(f"{len(short)} of the lines are not in stock", errors=short[:50])


class OutOfStock(Conflict):
    title, slug = "Not in stock", "out-of-stock"


async def cancel_order(
    context: OrdersContext, caller: Caller, order_id: UUID, reason: str, answer: Callable[[UnitOfWork, model.Order], Answer]
) -> tuple[int, Answer]:
    """Ask for an order to be undone; the version that says so. NotFound for others' orders, IllegalMove once the parcel has left.
    `answer` stores what the client is told with it.

    Payments is asked to begin no charge before the cancellation is accepted: afterwards one could begin before the command arrives there.
    """
    recorded = await store.history(context.database, order_id)
    seen = _of(caller, order_id, model.fold((item.event, item.time) for item in recorded))
    if not (seen.request_cancellation(reason) and seen.awaits_payment):
        return await _accept_cancellation(context, caller, order_id, reason, answer)
    try:
        await context.calls(HOLD_CAPTURE, HoldRequest(order_id=order_id))
    except (Unavailable, DeadlineExceeded):
        log.warning("cancelled without holding the payment: what is charged meanwhile is given back", order_id=str(order_id))
    try:
        return await _accept_cancellation(context, caller, order_id, reason, answer)
    except Exception:
        await _let_go(context, order_id)
        raise


async def _let_go(context: OrdersContext, order_id: UUID) -> None:
    """The cancellation came to nothing: the payment goes on soon, unless somebody else has cancelled the order meanwhile."""
    with suppress(Problem, *CONNECTION_LOST):
        recorded = await store.history(context.database, order_id)
        if not model.fold((item.event, item.time) for item in recorded).cancelling:
            await context.calls(HOLD_CAPTURE, HoldRequest(order_id=order_id, briefly=True))


async def _accept_cancellation(
    context: OrdersContext, caller: Caller, order_id: UUID, reason: str, answer: Callable[[UnitOfWork, model.Order], Answer]
) -> tuple[int, Answer]:
    for _ in range(ATTEMPTS):
        try:
            async with context.database.work() as work:
                order = _of(caller, order_id, (await store.lock(work, [order_id])).get(order_id))
                events = order.request_cancellation(reason)
                work.append(order_id, order.version, events)
                if events and order.created and str(order.created.user_id) != caller.subject:
                    audit(work, "order.cancel_requested", f"order:{order_id}", reason=reason)
                if events:
                    work.emit(CANCEL_ORDER, CancelOrder(order_id=order_id, reason=reason), key=order_id)
                for event in events:
                    order.apply(event, context.clock())
                told = answer(work, order)
            context.nudge("project")
            return order.version, told
        except VersionConflict:
            continue  # an event came in between: decide anew
    raise Conflict(f"order {order_id} is changing; try again")


def _of(caller: Caller, order_id: UUID, order: model.Order | None) -> model.Order:
    """The order when the caller may see it. NotFound otherwise."""
    if order is None or order.created is None or not caller.may_see(order.created.user_id):
        raise NotFound(f"no order {order_id}")
    return order


Told = tuple[UUID, Delivery[Any], Callable[[model.Order], list[Event]]]
"""An order, the message that tells of it, and the events that follow for the order as it is."""


async def record(context: OrdersContext, work: UnitOfWork, told: Iterable[Told]) -> None:
    """Append what other services report to the orders' streams; a fact that is known already adds nothing."""
    told = list(told)
    orders = await store.lock(work, {order_id for order_id, _, _ in told})
    for order_id, delivery, decide in told:
        order = orders.get(order_id)
        if order is None:
            continue  # not one of ours: a report about an order that was never stored
        events = decide(order)
        work.append(order_id, order.version, events, due=delivery)
        for event in events:
            order.apply(event, context.clock())
            if isinstance(event, OrderCancelled):
                work.emit(ORDER_CANCELLED, event, key=order_id, due=delivery)
            if isinstance(event, OrderCancelled | OrderCancellationRefused):
                work.emit(ORDERS, event, key=order_id, due=delivery)
    work.after_commit(lambda: context.nudge("project"))


async def project(context: OrdersContext) -> bool:
    """Bring the read side up to date and tell those who watch."""
    count, touched = await projections.advance(context.database, context.databases[READ])
    if touched:
        await context.live.publish("orders", touched)
    return count > 0


async def read_order(context: OrdersContext, caller: Caller, order_id: UUID, min_version: int | None) -> asyncpg.Record:
    """The order from the read side, which has reached `min_version`, or has had a moment for an order placed just now."""
    read = context.databases[READ]
    row = await store.summary(read, order_id)
    if row is None or (min_version is not None and row["version"] < min_version):
        row = await _wait_for(context, order_id, min_version, row)
    if row is None or not caller.may_see(row["user_id"]):
        raise NotFound(f"no order {order_id}")
    if min_version is not None and row["version"] < min_version:
        raise Conflict(f"order {order_id} has not reached version {min_version}: it is at {row['version']}", headers={"Retry-After": "1"})
    return row


async def _wait_for(context: OrdersContext, order_id: UUID, min_version: int | None, row: asyncpg.Record | None) -> asyncpg.Record | None:
    made = made_at(order_id)
    now = context.clock()
    if row is None and (made is None or not now - JUST_NOW < made < now + JUST_NOW):
        return None
    loop = asyncio.get_running_loop()
    end = loop.time() + context.settings.read_seconds
    async with context.live.listen("orders", str(order_id)) as changed:
        while loop.time() < end:
            changed.clear()
            row = await store.summary(context.databases[READ], order_id)
            if row is not None and row["version"] >= (min_version or 1):
                return row
            try:
                async with asyncio.timeout(min(0.1, max(0.001, end - loop.time()))):
                    await changed.wait()
            except TimeoutError:
                continue
    return row


async def owner(context: OrdersContext, request: OwnerRequest) -> Owner:
    user_id = await store.owner(context.databases[READ], request.order_id)
    if user_id is None:
        raise NotFound(f"no order {request.order_id}")
    return Owner(user_id=user_id)


async def recent(context: OrdersContext, request: RecentRequest) -> RecentOrders:
    rows = await store.page(context.databases[READ], request.user_id, None, None, request.limit)
    items = [
        OrderSummary(
            id=row["id"], status=row["status"], total=row["total"], currency=row["currency"], placed_at=row["placed_at"].isoformat()
        )
        for row in rows
    ]
    return RecentOrders(items=items)
