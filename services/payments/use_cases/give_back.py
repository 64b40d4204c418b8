"""Giving money back: asked for in a unit of work, made by a sweeper outside any, once per order."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from caravan import crash
from caravan.audit import audit
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from caravan.money import Money
from caravan.telemetry import log
from services.payments.client import Held, HoldRequest
from services.payments.messages import PAYMENT_REFUNDED, PaymentRefunded, RefundPayment
from services.payments.model import Refund, Schedule, origin
from services.payments.store import charges, refunds
from services.payments.use_cases import PaymentsContext
from services.payments.use_cases.charge import lease, publish

BATCH = 50
BRIEFLY = timedelta(seconds=10)


async def hold_capture(context: PaymentsContext, request: HoldRequest) -> Held:
    """Let no attempt begin while the order's cancellation is on its way here."""
    now = context.clock()
    until = now + (BRIEFLY if request.briefly else timedelta(seconds=context.settings.hold_seconds))
    await charges.hold(context.database, request.order_id, context.settings.currency, until, now)
    return Held()


async def ask_refund(context: PaymentsContext, work: UnitOfWork, command: Delivery[RefundPayment]) -> None:
    """Give back all that was captured. Where nothing was, nothing will be: a later capture is refused."""
    order_id, now = command.message.order_id, context.clock()
    await charges.ensure(work, order_id, context.settings.currency, now)
    payment = (await charges.lock(work, [order_id]))[order_id]
    was = payment.status
    payment.ask_refund()
    amount, reason = await refunds.ask_refund(work, payment, command, command.message.reason, now)
    if was == "retrying":
        publish(work, payment, None)
    if payment.status in ("voided", "failed", "refunded"):
        event = PaymentRefunded(order_id=order_id, amount=Money(amount=amount, currency=payment.currency), reason=reason)
        work.emit(PAYMENT_REFUNDED, event, key=order_id)
    elif payment.status == "refunding":
        work.after_commit(lambda: context.nudge("refunds"))


async def refund_due(context: PaymentsContext) -> bool:
    """The sweeper: make the refunds that are due, and ask again about those without an answer."""
    due = await refunds.take_due_refunds(context.database, lease(context), context.clock(), BATCH)
    if due:
        crash.point("refund.before_call")
        made = await asyncio.gather(*(_call(context, refund) for refund in due))
        crash.point("refund.after_call_before_commit")
        async with context.database.work() as work:
            await _record(context, work, list(zip(due, made, strict=True)))
    return len(due) == BATCH


async def _call(context: PaymentsContext, refund: Refund) -> bool:
    money = Money(amount=refund.amount, currency=refund.currency)
    try:
        if refund.charge is None:
            raise LookupError("nothing was captured for it")
        async with asyncio.timeout(context.settings.call_seconds):
            await context.parts.provider.refund(refund.key, str(refund.order_id), refund.charge, money)
        return True
    except Exception as error:  # whatever went wrong, the money may be on its way
        log.warning("refund without an answer", order_id=str(refund.order_id), key=refund.key, error=repr(error))
        return False


async def _record(context: PaymentsContext, work: UnitOfWork, called: Sequence[tuple[Refund, bool]]) -> None:
    now, schedule = context.clock(), Schedule((), context.settings.ask_again_seconds)
    await charges.lock(work, [refund.order_id for refund, _ in called])
    finished = await refunds.finish_refunds(work, [refund.order_id for refund, made in called if made], now)
    for refund, made in called:
        if refund.order_id in finished:
            _publish(work, refund, origin(refund, now))
        elif not made:
            await refunds.postpone_refund(work, refund.order_id, schedule.next_call(refund.calls, now))


def _publish(work: UnitOfWork, refund: Refund, due: Delivery[RefundPayment] | None) -> None:
    money = Money(amount=refund.amount, currency=refund.currency)
    event = PaymentRefunded(order_id=refund.order_id, amount=money, reason=refund.reason)
    work.emit(PAYMENT_REFUNDED, event, key=refund.order_id, due=due)
    actor = refund.actor or "payments"
    audit(work, "payment.refunded", f"order:{refund.order_id}", actor=actor, due=due, amount=money.model_dump(), reason=refund.reason)
