"""Charging an order: the intent is committed, the provider is called outside any transaction, and one unit of work records what came of it."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from prometheus_client import Counter

from caravan import crash
from caravan.audit import audit
from caravan.database import UnitOfWork
from caravan.jobs import Job, JobsAway, NewJob
from caravan.messages import Delivery
from caravan.money import Money
from caravan.telemetry import log
from services.payments.messages import (
    CAPTURE,
    PAYMENT_COMPLETED,
    PAYMENT_FAILED,
    PAYMENT_REFUNDED,
    CapturePayment,
    ExpectPayment,
    PaymentCompleted,
    PaymentFailed,
    PaymentRefunded,
)
from services.payments.model import Answer, Payment, Schedule, invoice_number, origin
from services.payments.providers import Captured
from services.payments.store import charges, refunds
from services.payments.use_cases import RETRY_JOB, PaymentsContext

BATCH = 100
GRACE = timedelta(seconds=1)
"""How long the sweeper leaves a further attempt to its job."""
RETRIES_SHOWN = 1000
"""Most jobs of further attempts that are made again at a time: those due first."""
SPARE_SECONDS = 5.0
"""Added to the deadline of a call before the sweeper takes over: time to commit the result."""
ANSWERS = Counter("caravan_payment_answers_total", "Calls to capture by what is known afterwards", ["state"])
Answered = list[tuple[Payment, Answer]]


async def expect(context: PaymentsContext, work: UnitOfWork, orders: Sequence[ExpectPayment]) -> None:
    """Know what orders will be charged with; one whose command to charge has overtaken this begins at once."""
    now = context.clock()
    begin = await charges.expect(work, list({order.order_id: order for order in orders}.values()), now)
    if begin:
        work.after_commit(partial(context.jobs.enqueue_soon, RETRY_JOB, *(_retry_job(order_id, 1, now, now) for order_id in begin)))


async def close(context: PaymentsContext, work: UnitOfWork, ended: Mapping[UUID, str]) -> None:
    """Refuse to charge orders that have ended, each with its reason."""
    await charges.close(work, ended, context.settings.currency, context.clock())


async def capture(context: PaymentsContext, deliveries: Sequence[Delivery[CapturePayment]]) -> None:
    """Charge each order once; a repeated command for a finished one gets the same outcome again."""
    commands = {d.message.order_id: d for d in reversed(deliveries)}
    begun = await charges.begin(context.database, list(commands.values()), context.settings.currency, lease(context), context.clock())
    others = commands.keys() - {payment.order_id for payment in begun}
    known = await charges.standing(context.database, others) if others else []
    answered = await ask(context, [*begun, *(payment for payment in known if payment.status == "capturing")])
    async with context.database.work() as work:
        new = await work.claim(CAPTURE.name, {d.id for d in deliveries})
        await record(context, work, answered)
        for payment in known:
            again = [d for d in deliveries if d.message.order_id == payment.order_id and d.id in new]
            if again:
                publish(work, payment, again[0])


async def resume(context: PaymentsContext) -> bool:
    """The sweeper: questions about calls that got no answer, and further attempts that no job has made in time."""
    due = await charges.take_due(context.database, lease(context), context.clock(), BATCH, GRACE)
    await _try(context, due)
    return len(due) == BATCH


async def retry(context: PaymentsContext, job: Job) -> dict[str, str]:
    """The job: the next attempt of a payment, whose row says whether it is still wanted."""
    order_id, attempt = UUID(job.data["order_id"]), int(job.data["attempt"])
    taken = await charges.take_retries(context.database, [(order_id, attempt)], lease(context), context.clock())
    await _try(context, taken)
    return {"attempt": "made" if taken else "not wanted any more"}


async def _try(context: PaymentsContext, payments: Sequence[Payment]) -> None:
    if payments:
        answered = await ask(context, payments)
        async with context.database.work() as work:
            await record(context, work, answered)


def _retry_job(order_id: UUID, attempt: int, due_at: datetime, now: datetime) -> NewJob:
    return NewJob({"order_id": str(order_id), "attempt": attempt}, id=f"{order_id}-{attempt}", delay=max(due_at - now, timedelta()))


async def sweep_retries(context: PaymentsContext) -> bool:
    """Rows that wait for an attempt have their jobs, also after Redis has forgotten them."""
    now = context.clock()
    waiting = await charges.retrying(context.database, RETRIES_SHOWN)
    if waiting:
        with suppress(JobsAway):
            await context.jobs.enqueue(RETRY_JOB, *(_retry_job(*row, now) for row in waiting))
    return False


async def ask(context: PaymentsContext, payments: Sequence[Payment]) -> Answered:
    """Call the provider for each, several at once."""
    if not payments:
        return []
    crash.point("payment.before_call")
    room = asyncio.Semaphore(context.settings.calls_in_flight)
    answers = await asyncio.gather(*(_ask(context, payment, room) for payment in payments))
    crash.point("payment.after_call_before_commit")
    return list(zip(payments, answers, strict=True))


async def _ask(context: PaymentsContext, payment: Payment, room: asyncio.Semaphore) -> Answer:
    money = Money(amount=payment.amount, currency=payment.currency)
    async with room:
        try:
            async with asyncio.timeout(context.settings.call_seconds):
                result = await context.parts.provider.capture(payment.key, str(payment.order_id), money, payment.token)
        except Exception as error:  # whatever went wrong, the charge may have been made
            log.warning("capture without an answer", order_id=str(payment.order_id), key=payment.key, error=repr(error))
            return Answer("unknown", "the provider gave no answer")
    if isinstance(result, Captured):
        return Answer("captured", charge=result.charge)
    return Answer("declined" if result.hard else "failed", result.reason)


async def record(context: PaymentsContext, work: UnitOfWork, answered: Answered) -> None:
    """Write what came of calls, with the invoices and the events. What another process has recorded already stays."""
    if not answered:
        return
    now, schedule = context.clock(), Schedule(context.settings.retry_seconds, context.settings.ask_again_seconds)
    locked = await charges.lock(work, [payment.order_id for payment, _ in answered])
    taken = [
        (locked[asked.order_id], answer) for asked, answer in answered if locked[asked.order_id].take(asked.attempt, answer, schedule, now)
    ]
    if not taken:
        return
    numbers = await charges.settle(work, taken, now)
    for payment, answer in taken:
        ANSWERS.labels(answer.state).inc()
        payment.invoice = numbers.get(payment.order_id)
        due = origin(payment, now)
        publish(work, payment, due)
        if answer.state == "captured":
            money, number = Money(amount=payment.amount, currency=payment.currency), invoice_number(numbers[payment.order_id])
            audit(
                work,
                "payment.captured",
                f"order:{payment.order_id}",
                actor=payment.actor or "payments",
                due=due,
                amount=money.model_dump(),
                attempt=payment.attempt,
                invoice_number=number,
            )
        if payment.status == "retrying" and payment.due_at:
            job = _retry_job(payment.order_id, payment.attempt + 1, payment.due_at, now)
            work.after_commit(partial(context.jobs.enqueue_soon, RETRY_JOB, job))
    waiting = [payment for payment, _ in taken if payment.status in ("refunding", "voided")]
    if waiting:
        await _settle_refunds(context, work, waiting)


async def _settle_refunds(context: PaymentsContext, work: UnitOfWork, payments: list[Payment]) -> None:
    """The answer to a refund that had to wait for these captures."""
    asked = await refunds.settle_waiting_refunds(work, payments, context.clock())
    for payment in payments:
        if payment.status == "voided":
            nothing = Money(amount=0, currency=payment.currency)
            row = asked[payment.order_id]
            event = PaymentRefunded(order_id=payment.order_id, amount=nothing, reason=row["reason"])
            due: Delivery[Any] = Delivery(None, row["cause"], str(payment.order_id), context.clock(), row["traceparent"], row["actor"])
            work.emit(PAYMENT_REFUNDED, event, key=payment.order_id, due=due)
    work.after_commit(lambda: context.nudge("refunds"))


def publish(work: UnitOfWork, payment: Payment, due: Delivery[CapturePayment] | None) -> None:
    """The outcome of a capture, if there is one yet."""
    order_id = payment.order_id
    match payment.status:
        case "completed" | "refunding" | "refunded":
            assert payment.invoice is not None
            money = Money(amount=payment.amount, currency=payment.currency)
            completed = PaymentCompleted(
                order_id=order_id, amount=money, attempt=payment.attempt, invoice_number=invoice_number(payment.invoice)
            )
            work.emit(PAYMENT_COMPLETED, completed, key=order_id, due=due)
        case "failed" | "voided":
            failed = PaymentFailed(order_id=order_id, reason=payment.reason, attempts=payment.attempt)
            work.emit(PAYMENT_FAILED, failed, key=order_id, due=due)


def lease(context: PaymentsContext) -> datetime:
    return context.clock() + timedelta(seconds=context.settings.call_seconds + SPARE_SECONDS)
