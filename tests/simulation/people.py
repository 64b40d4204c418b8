"""What customers, staff and the jobs of payments do in a schedule, through the use cases of the services."""

from uuid import UUID

from caravan.auth import Caller
from caravan.database import UnitOfWork
from caravan.errors import Conflict
from caravan.jobs import Job
from services.inventory.schemas import MovementLine
from services.inventory.use_cases import move
from services.orders.schemas import AcceptedOrder, LineRequest, OrderRequest, PaymentRequest, ShippingAddress
from services.orders.use_cases import cancel, place
from services.payments.use_cases import charge
from tests.simulation.schedule import Action, Schedule
from tests.simulation.shop import SimulatedShop, next_order_id, run_in_unit_of_work, unavailable

STAFF = Caller(str(UUID(int=7)), "staff", "simulation")
ADDRESS = ShippingAddress(name="Ada", street="12 St James's Square", city="London", postcode="SW1Y 4JH", country="GB")


async def receive_first_stock(shop: SimulatedShop, schedules: list[Schedule]) -> None:
    lines = [
        MovementLine(sku=schedule.sku, kind="receive", quantity=schedule.stock, reason="first stock")
        for schedule in schedules
    ]
    inventory = shop.contexts["inventory"]
    await run_in_unit_of_work(inventory.database, lambda uow: move.move_stock(inventory, uow, STAFF, lines))


async def place_order(shop: SimulatedShop, schedule: Schedule, action: Action) -> None:
    order = action.order
    assert order is not None
    next_order_id.set(order.order_id)
    unavailable.set(action.unavailable)
    request = OrderRequest(
        lines=[LineRequest(sku=schedule.sku, quantity=order.quantity)],
        shipping_address=ADDRESS,
        payment=PaymentRequest(token=order.token),
    )
    caller = Caller(str(order.user_id), "customer", "simulation")
    try:
        await place.place_order(shop.contexts["orders"], caller, request, _answer)
    except Conflict:
        schedule.note(f"#{order.number} is not in stock: refused at once")
        schedule.orders.remove(order)
        schedule.reached["refused at once: not in stock"] += 1
        return
    order.accepted = True
    schedule.note(f"#{order.number} placed: {order.quantity} pieces, {order.token}")


async def cancel_order(shop: SimulatedShop, schedule: Schedule, action: Action) -> None:
    order = action.order
    assert order is not None
    unavailable.set(action.unavailable)
    caller = Caller(str(order.user_id), "customer", "simulation")
    try:
        await cancel.cancel_order(shop.contexts["orders"], caller, order.order_id, "changed my mind", lambda *_: None)
    except Conflict:
        schedule.note(f"#{order.number} can't be cancelled any more")
        schedule.reached["cancellation refused at once"] += 1
        return
    order.cancelled_at, order.was_held = shop.clock.now, not action.unavailable
    schedule.note(f"#{order.number} cancelled{' without a hold' * bool(action.unavailable)}")


async def move_stock(shop: SimulatedShop, schedule: Schedule, action: Action) -> None:
    quantity = action.quantity if action.kind == "receive" else -action.quantity
    line = MovementLine(
        sku=schedule.sku,
        kind=action.kind,  # type: ignore[arg-type]
        quantity=quantity,
        reason="by hand",
    )
    inventory = shop.contexts["inventory"]
    try:
        await run_in_unit_of_work(inventory.database, lambda uow: move.move_stock(inventory, uow, STAFF, [line]))
    except Conflict:
        schedule.note(f"staff can't {action.kind} {quantity}")
        schedule.reached["stock by hand refused"] += 1
        return
    schedule.moved += quantity
    schedule.note(f"staff: {action.kind} {quantity}")


async def run_job(shop: SimulatedShop, schedule: Schedule) -> None:
    request = schedule.choose_job(shop.clock.now)
    if request is None:
        return
    number = next(order.number for order in schedule.orders if str(order.order_id) == request.data["order_id"])
    schedule.note(f"job: attempt {request.data['attempt']} of #{number}")
    job = Job(request.id or "", "", request.data, 1, None, _ignore_progress, lambda: False)
    await charge.retry_capture(shop.contexts["payments"], job)


def _answer(_: UnitOfWork, accepted: AcceptedOrder) -> AcceptedOrder:
    return accepted


async def _ignore_progress(done: int, total: int | None = None) -> None:
    return None
