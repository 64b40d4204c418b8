"""Charge an order: the attempt is committed, the provider is called outside any transaction, and one unit of work
records the result.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from caravan import failpoint, fault_flags
from caravan.audit import record_audit
from caravan.concurrency import map_concurrently
from caravan.database import UnitOfWork
from caravan.jobs import Job, JobRequest, JobsUnavailable
from caravan.messages import Delivery
from caravan.money import Money
from caravan.telemetry import link_current_span, log
from services.payments.messages import (
    CAPTURE_PAYMENT,
    PAYMENT_COMPLETED,
    PAYMENT_FAILED,
    PAYMENT_REFUNDED,
    CapturePayment,
    ExpectPayment,
    PaymentCompleted,
    PaymentFailed,
    PaymentRefunded,
)
from services.payments.metrics import CAPTURE_RESULTS, PROVIDER_CALLS
from services.payments.model import CaptureResult, Payment, RetrySchedule, format_invoice_number, restore_command
from services.payments.providers.protocol import CaptureSuccess
from services.payments.store import charges, expected_payments, refunds
from services.payments.use_cases import RETRY_JOB, PaymentsContext

BATCH_SIZE = 100
RETRY_GRACE = timedelta(seconds=1)
"""How long the sweeper leaves a further attempt to its job."""
MAX_RETRY_JOBS = 1000
"""Most jobs of further attempts that are made again at a time: those due first."""
SPARE_SECONDS = 5.0
"""Added to the deadline of a call before the sweeper takes over: time to commit the result."""
REFUSED_TOKEN = "tok_declined"
"""What is sent while the fault provider-refusing is on. It is the provider who declines: what it has charged without
our hearing of it stays charged.
"""
PaymentResults = list[tuple[Payment, CaptureResult]]


async def expect_payments(context: PaymentsContext, uow: UnitOfWork, orders: Sequence[ExpectPayment]) -> None:
    """Know what orders will be charged with; one whose command to charge has overtaken this begins at once."""
    now = context.clock()
    order_ids = await expected_payments.insert_expected_payments(
        uow, list({order.order_id: order for order in orders}.values()), now
    )
    for order_id in order_ids:
        job = _build_retry_job(order_id, 1, now, now)
        uow.run_after_commit(partial(context.jobs.enqueue_soon, RETRY_JOB, job))


async def void_payments(context: PaymentsContext, uow: UnitOfWork, reasons: Mapping[UUID, str]) -> None:
    """Refuse to charge orders that have ended, each with its reason."""
    await expected_payments.void_expected_payments(uow, reasons, context.settings.currency, context.clock())


async def capture_payments(context: PaymentsContext, deliveries: Sequence[Delivery[CapturePayment]]) -> None:
    """Charge each order once; a repeated command for a finished one gets the same outcome again."""
    commands = {d.message.order_id: d for d in reversed(deliveries)}
    new_payments = await charges.begin_captures(
        context.database,
        list(commands.values()),
        context.settings.currency,
        compute_lease_end(context),
        context.clock(),
    )
    known_orders = commands.keys() - {payment.order_id for payment in new_payments}
    existing_payments = await charges.find_payments(context.database, known_orders) if known_orders else []
    results = await call_provider(
        context, [*new_payments, *(payment for payment in existing_payments if payment.status == "capturing")]
    )
    async with context.database.unit_of_work() as uow:
        new_deliveries = await uow.claim_messages(CAPTURE_PAYMENT.name, deliveries)
        await record_results(context, uow, results)
        for payment in existing_payments:
            repeats = [d for d in new_deliveries if d.message.order_id == payment.order_id]
            if repeats:
                publish_outcome(uow, payment, repeats[0])


async def resume_captures(context: PaymentsContext) -> bool:
    """The sweeper: questions about calls that got no result, and further attempts that no job has made in time."""
    payments = await charges.claim_due_payments(
        context.database, compute_lease_end(context), context.clock(), BATCH_SIZE, RETRY_GRACE
    )
    await _capture_and_record(context, payments)
    return len(payments) == BATCH_SIZE


async def retry_capture(context: PaymentsContext, job: Job) -> dict[str, str]:
    """The job: the next attempt of a payment, whose row says whether it is still wanted."""
    order_id, attempt = UUID(job.data["order_id"]), int(job.data["attempt"])
    payments = await charges.claim_retries(
        context.database, [(order_id, attempt)], compute_lease_end(context), context.clock()
    )
    await _capture_and_record(context, payments)
    return {"attempt": "made" if payments else "not wanted any more"}


async def _capture_and_record(context: PaymentsContext, payments: Sequence[Payment]) -> None:
    if payments:
        link_current_span(payment.traceparent for payment in payments)
        results = await call_provider(context, payments)
        async with context.database.unit_of_work() as uow:
            await record_results(context, uow, results)


def _build_retry_job(order_id: UUID, attempt: int, due_at: datetime, now: datetime) -> JobRequest:
    return JobRequest(
        {"order_id": str(order_id), "attempt": attempt},
        id=f"{order_id}-{attempt}",
        delay=max(due_at - now, timedelta()),
    )


async def enqueue_missing_retries(context: PaymentsContext) -> bool:
    """Rows that wait for an attempt have their jobs, also after Redis has forgotten them."""
    now = context.clock()
    retries = await charges.list_retries(context.database, MAX_RETRY_JOBS)
    if retries:
        with suppress(JobsUnavailable):
            await context.jobs.enqueue(RETRY_JOB, *(_build_retry_job(*row, now) for row in retries))
    return False


async def call_provider(context: PaymentsContext, payments: Sequence[Payment]) -> PaymentResults:
    """Call the provider for each, several at once."""
    if not payments:
        return []
    failpoint.hit("payment.before_call")
    with PROVIDER_CALLS.observe_batch("capture", len(payments)):
        results = await map_concurrently(partial(_capture_payment, context), payments, context.settings.calls_in_flight)
    failpoint.hit("payment.after_call_before_commit")
    return list(zip(payments, results, strict=True))


async def _capture_payment(context: PaymentsContext, payment: Payment) -> CaptureResult:
    money = Money(amount=payment.amount, currency=payment.currency)
    try:
        with PROVIDER_CALLS.observe("capture") as call:
            async with asyncio.timeout(context.settings.call_timeout_seconds):
                if fault_flags.active:
                    await fault_flags.disturb_provider("payment")
                is_refused = fault_flags.active and fault_flags.is_on(fault_flags.PROVIDER_REFUSING, "payment")
                token = REFUSED_TOKEN if is_refused else payment.token
                provider_result = await context.resources.provider.capture(
                    payment.key, str(payment.order_id), money, token
                )
            if not isinstance(provider_result, CaptureSuccess):
                call.result = "refused"
    except Exception as error:  # whatever went wrong, the charge may have been made
        log.warning("capture without an answer", order_id=str(payment.order_id), key=payment.key, error=repr(error))
        return CaptureResult("unknown", "the provider gave no answer")
    if isinstance(provider_result, CaptureSuccess):
        return CaptureResult("captured", charge=provider_result.charge)
    return CaptureResult("declined" if provider_result.hard else "failed", provider_result.reason)


async def record_results(context: PaymentsContext, uow: UnitOfWork, results: PaymentResults) -> None:
    """Store the results of calls, with the invoices and the events. What another process has recorded already stays."""
    if not results:
        return
    now, schedule = context.clock(), RetrySchedule(context.settings.retry_seconds, context.settings.requery_seconds)
    locked_payments = await charges.lock_payments(uow, [payment.order_id for payment, _ in results])
    applied_results = [
        (locked_payments[original.order_id], result)
        for original, result in results
        if locked_payments[original.order_id].apply_result(original.attempt, result, schedule, now)
    ]
    if not applied_results:
        return
    invoice_numbers = await charges.save_results(uow, applied_results, now)
    for payment, result in applied_results:
        uow.run_after_commit(CAPTURE_RESULTS.labels(result.state).inc)
        payment.invoice = invoice_numbers.get(payment.order_id)
        caused_by = restore_command(payment, now)
        publish_outcome(uow, payment, caused_by)
        if result.state == "captured":
            money, number = (
                Money(amount=payment.amount, currency=payment.currency),
                format_invoice_number(invoice_numbers[payment.order_id]),
            )
            record_audit(
                uow,
                "payment.captured",
                f"order:{payment.order_id}",
                actor=payment.actor or "payments",
                caused_by=caused_by,
                amount=money.model_dump(),
                attempt=payment.attempt,
                invoice_number=number,
            )
        if payment.status == "retrying" and payment.due_at:
            job = _build_retry_job(payment.order_id, payment.attempt + 1, payment.due_at, now)
            uow.run_after_commit(partial(context.jobs.enqueue_soon, RETRY_JOB, job))
    refundable = [payment for payment, _ in applied_results if payment.status in ("refunding", "voided")]
    if refundable:
        await _settle_refunds(context, uow, refundable)


async def _settle_refunds(context: PaymentsContext, uow: UnitOfWork, payments: list[Payment]) -> None:
    """The answer to a refund that had to wait for these captures."""
    refund_rows = await refunds.settle_waiting_refunds(uow, payments, context.clock())
    for payment in payments:
        if payment.status == "voided":
            nothing = Money(amount=0, currency=payment.currency)
            row = refund_rows[payment.order_id]
            event = PaymentRefunded(order_id=payment.order_id, amount=nothing, reason=row["reason"])
            caused_by: Delivery[Any] = Delivery(
                None, row["cause"], str(payment.order_id), context.clock(), row["traceparent"], row["actor"]
            )
            uow.emit(PAYMENT_REFUNDED, event, key=payment.order_id, caused_by=caused_by)
    uow.run_after_commit(lambda: context.wake("refunds"))


def publish_outcome(uow: UnitOfWork, payment: Payment, caused_by: Delivery[CapturePayment] | None) -> None:
    """The outcome of a capture, if there is one yet."""
    order_id = payment.order_id
    match payment.status:
        case "completed" | "refunding" | "refunded":
            assert payment.invoice is not None
            money = Money(amount=payment.amount, currency=payment.currency)
            completed = PaymentCompleted(
                order_id=order_id,
                amount=money,
                attempt=payment.attempt,
                invoice_number=format_invoice_number(payment.invoice),
            )
            uow.emit(PAYMENT_COMPLETED, completed, key=order_id, caused_by=caused_by)
        case "failed" | "voided":
            failed = PaymentFailed(order_id=order_id, reason=payment.reason, attempts=payment.attempt)
            uow.emit(PAYMENT_FAILED, failed, key=order_id, caused_by=caused_by)


def compute_lease_end(context: PaymentsContext) -> datetime:
    return context.clock() + timedelta(seconds=context.settings.call_timeout_seconds + SPARE_SECONDS)
