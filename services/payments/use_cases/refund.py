"""Refund an order, once: requested in a unit of work, made by a sweeper outside any transaction."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from caravan import failpoint, fault_flags
from caravan.audit import record_audit
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from caravan.money import Money
from caravan.telemetry import log
from services.payments.client import HoldRequest, HoldResult
from services.payments.messages import PAYMENT_REFUNDED, PaymentRefunded, RefundPayment
from services.payments.metrics import PROVIDER_CALLS
from services.payments.model import Refund, RetrySchedule, restore_command
from services.payments.store import charges, expected_payments, refunds
from services.payments.use_cases import PaymentsContext
from services.payments.use_cases.charge import compute_lease_end, publish_outcome

BATCH_SIZE = 50
BRIEF_HOLD = timedelta(seconds=10)


async def hold_capture(context: PaymentsContext, request: HoldRequest) -> HoldResult:
    """Let no attempt begin while the order's cancellation is on its way here."""
    now = context.clock()
    held_until = now + (BRIEF_HOLD if request.briefly else timedelta(seconds=context.settings.hold_seconds))
    await expected_payments.hold_payment(context.database, request.order_id, context.settings.currency, held_until, now)
    return HoldResult()


async def request_refund(context: PaymentsContext, uow: UnitOfWork, command: Delivery[RefundPayment]) -> None:
    """Give back all that was captured. Where nothing was, nothing will be: a later capture is refused."""
    order_id, now = command.message.order_id, context.clock()
    await expected_payments.create_missing_payment(uow, order_id, context.settings.currency, now)
    payment = (await charges.lock_payments(uow, [order_id]))[order_id]
    previous_status = payment.status
    payment.request_refund()
    amount, reason = await refunds.request_refund(uow, payment, command, command.message.reason, now)
    if previous_status == "retrying":
        publish_outcome(uow, payment, None)
    if payment.status in ("voided", "failed", "refunded"):
        event = PaymentRefunded(
            order_id=order_id, amount=Money(amount=amount, currency=payment.currency), reason=reason
        )
        uow.emit(PAYMENT_REFUNDED, event, key=order_id)
    elif payment.status == "refunding":
        uow.run_after_commit(lambda: context.wake("refunds"))


async def make_due_refunds(context: PaymentsContext) -> bool:
    """The sweeper: make the refunds that are due, and ask again about those without an answer."""
    due_refunds = await refunds.claim_due_refunds(
        context.database, compute_lease_end(context), context.clock(), BATCH_SIZE
    )
    if due_refunds:
        failpoint.hit("refund.before_call")
        results = await asyncio.gather(*(_call_provider(context, refund) for refund in due_refunds))
        failpoint.hit("refund.after_call_before_commit")
        async with context.database.unit_of_work() as uow:
            await _record_refunds(context, uow, list(zip(due_refunds, results, strict=True)))
    return len(due_refunds) == BATCH_SIZE


async def _call_provider(context: PaymentsContext, refund: Refund) -> bool:
    money = Money(amount=refund.amount, currency=refund.currency)
    try:
        if refund.charge is None:
            raise LookupError("nothing was captured for it")
        with PROVIDER_CALLS.observe("refund"):
            async with asyncio.timeout(context.settings.call_timeout_seconds):
                if fault_flags.active:
                    await fault_flags.disturb_provider("payment")
                await context.resources.provider.refund(refund.key, str(refund.order_id), refund.charge, money)
        return True
    except Exception as error:  # whatever went wrong, the money may be on its way
        log.warning("refund without an answer", order_id=str(refund.order_id), key=refund.key, error=repr(error))
        return False


async def _record_refunds(context: PaymentsContext, uow: UnitOfWork, results: Sequence[tuple[Refund, bool]]) -> None:
    now, schedule = context.clock(), RetrySchedule((), context.settings.requery_seconds)
    await charges.lock_payments(uow, [refund.order_id for refund, _ in results])
    finished_orders = await refunds.finish_refunds(
        uow, [refund.order_id for refund, is_made in results if is_made], now
    )
    for refund, is_made in results:
        if refund.order_id in finished_orders:
            _publish_refund(uow, refund, restore_command(refund, now))
        elif not is_made:
            await refunds.postpone_refund(uow, refund.order_id, schedule.compute_next_call(refund.calls, now))


def _publish_refund(uow: UnitOfWork, refund: Refund, caused_by: Delivery[RefundPayment] | None) -> None:
    money = Money(amount=refund.amount, currency=refund.currency)
    event = PaymentRefunded(order_id=refund.order_id, amount=money, reason=refund.reason)
    uow.emit(PAYMENT_REFUNDED, event, key=refund.order_id, caused_by=caused_by)
    actor = refund.actor or "payments"
    record_audit(
        uow,
        "payment.refunded",
        f"order:{refund.order_id}",
        actor=actor,
        caused_by=caused_by,
        amount=money.model_dump(),
        reason=refund.reason,
    )
