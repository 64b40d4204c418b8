"""What payments tells of an order's timeline: each call to the provider with its key, the jobs of further attempts, the
refund, and the documents.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from caravan.errors import NotFound
from caravan.jobs import UNAVAILABLE_ERRORS
from caravan.jobs.admin import JobStatus, get_job
from caravan.telemetry import parse_trace_id
from caravan.timeline import CauseFinder, HandledMessage, TimelineEntry, TimelineGap, TimelinePart
from services.payments.model import (
    build_charge_key,
    build_refund_key,
    format_credit_note_number,
    format_invoice_number,
)
from services.payments.store import charges, timeline
from services.payments.store.charges import AttemptRow
from services.payments.store.timeline import PaymentHistory
from services.payments.use_cases import RETRY_JOB

JOBS_SECONDS = 0.5
JOBS_REASON = "only the newest finished jobs are kept, for 7 days at most"


async def describe_payment(context: Any, order_id: UUID, handled: Sequence[HandledMessage]) -> TimelinePart:
    payment = await timeline.find_history(context.database, order_id)
    if payment is None:
        return TimelinePart()
    attempts = await charges.list_attempts(context.database, order_id)
    gaps: list[TimelineGap] = []
    try:
        jobs = await _find_jobs(context, payment)
    except UNAVAILABLE_ERRORS as error:
        jobs = {}
        gaps.append(TimelineGap(source="jobs", reason=f"the Redis of the jobs gave no answer: {type(error).__name__}"))
    else:
        lost = [each.started_at for each in attempts if each.attempt > 1 and each.attempt not in jobs]
        if lost:
            gaps.append(TimelineGap(source="jobs", reason=JOBS_REASON, before=max(lost)))
    return TimelinePart(entries=PaymentEntries(payment, attempts, jobs, CauseFinder(handled)).build(), gaps=gaps)


async def _find_jobs(context: Any, payment: PaymentHistory) -> dict[int, JobStatus]:
    """The jobs of further attempts, by attempt; the first attempt needs none."""
    jobs: dict[int, JobStatus] = {}
    last = payment.attempt + (payment.status == "retrying")
    async with asyncio.timeout(JOBS_SECONDS):
        for attempt in range(2, last + 1):
            try:
                jobs[attempt] = await get_job(context.jobs.store, f"{RETRY_JOB}:{payment.order_id}-{attempt}")
            except NotFound:
                continue
    return jobs


class PaymentEntries:
    """Makes the entries of one payment, in the order in which they happened to it."""

    def __init__(
        self,
        payment: PaymentHistory,
        attempts: Sequence[AttemptRow],
        jobs: dict[int, JobStatus],
        causes: CauseFinder,
    ) -> None:
        self._payment = payment
        self._attempts = attempts
        self._jobs = jobs
        self._causes = causes
        self._entries: list[TimelineEntry] = []

    def build(self) -> list[TimelineEntry]:
        payment = self._payment
        self._add(
            "payment:expected",
            "payments",
            "payment_expected",
            payment.created_at,
            cause=self._causes.take_cause("payments.ExpectPayment"),
            state={"status": "expected"},
            details={"amount": self._money(payment.amount)},
        )
        previous = str(payment.cause) if payment.cause else None
        for attempt in self._attempts:
            previous = self._add_attempt(attempt, previous)
        if payment.status == "retrying" and (job := self._jobs.get(payment.attempt + 1)):
            self._add_job(job, previous)
        if payment.status == "voided":
            cause = self._causes.take_cause(
                "payments.RefundPayment", "orders.OrderCancelled", "inventory.InventoryRejected"
            )
            self._add(
                "payment:voided",
                "payments",
                "payment_voided",
                payment.updated_at,
                cause=cause,
                announces=["payments.PaymentFailed"],
                state={"status": "voided"},
                details={"reason": payment.reason},
                is_undoing=True,
            )
        if payment.invoice is not None and payment.invoiced_at:
            self._add(
                "invoice",
                "documents",
                "invoice_issued",
                payment.invoiced_at,
                cause=previous,
                subject="invoice",
                details={"number": format_invoice_number(payment.invoice)},
            )
        self._add_refund()
        return self._entries

    def _add_attempt(self, attempt: AttemptRow, cause: str | None) -> str:
        """The call and its result; the id of the last of the two."""
        if job := self._jobs.get(attempt.attempt):
            cause = self._add_job(job, cause)
        call_id = f"payment:attempt:{attempt.attempt}"
        self._add(
            call_id,
            "provider",
            "capture_called",
            attempt.started_at,
            cause=cause,
            state={"status": "capturing", "attempt": attempt.attempt},
            details={"attempt": attempt.attempt, "calls": attempt.calls},
            internal={"key": build_charge_key(self._payment.order_id, attempt.attempt)},
        )
        if attempt.finished_at is None:
            return call_id
        is_last = attempt.attempt == self._payment.attempt
        announces = ["payments.PaymentCompleted"] if attempt.state == "captured" else []
        if is_last and attempt.state != "captured" and self._payment.status in ("failed", "voided"):
            announces = ["payments.PaymentFailed"]
        self._add(
            f"{call_id}:result",
            "provider",
            f"capture_{attempt.state}",
            attempt.finished_at,
            cause=call_id,
            announces=announces,
            state={"status": attempt.state, "attempt": attempt.attempt},
            details={
                "attempt": attempt.attempt,
                "calls": attempt.calls,
                "effects": int(attempt.state == "captured"),
                "reason": attempt.reason,
            },
            internal={"charge": attempt.charge} if attempt.charge else {},
        )
        return f"{call_id}:result"

    def _add_job(self, job: JobStatus, cause: str | None) -> str:
        entry_id = f"job:{job.id}"
        self._add(
            entry_id,
            "jobs",
            "job_enqueued",
            job.created_at,
            cause=cause,
            subject=entry_id,
            state={"state": job.state},
            details={"queue": job.queue, "attempts": job.attempts, "result": job.result, "reason": job.reason},
            is_internal=True,
        )
        return entry_id

    def _add_refund(self) -> None:
        payment = self._payment
        if payment.refund_requested_at is None:
            return
        amount = self._money(payment.refund_amount or 0)
        self._add(
            "refund",
            "payments",
            "refund_requested",
            payment.refund_requested_at,
            cause=str(payment.refund_cause) if payment.refund_cause else None,
            subject="refund",
            state={"state": "requested"},
            details={"amount": amount, "reason": payment.refund_reason},
            is_undoing=True,
        )
        if payment.refunded_at is None:
            return
        is_call = bool(payment.refund_calls)
        self._add(
            "refund:done",
            "provider" if is_call else "payments",
            "refund_done",
            payment.refunded_at,
            cause="refund",
            subject="refund",
            announces=["payments.PaymentRefunded"],
            state={"state": "done"},
            details={"amount": amount, "calls": payment.refund_calls, "effects": int(is_call)},
            internal={"key": build_refund_key(payment.order_id)} if is_call else {},
            is_undoing=True,
        )
        if payment.credit_note is not None and payment.credited_at:
            self._add(
                "credit_note",
                "documents",
                "credit_note_issued",
                payment.credited_at,
                cause="refund:done",
                subject="credit_note",
                details={"number": format_credit_note_number(payment.credit_note)},
                is_undoing=True,
            )

    def _money(self, amount: int) -> dict[str, Any]:
        return {"amount": amount, "currency": self._payment.currency}

    def _add(
        self,
        entry_id: str,
        source: str,
        kind: str,
        time: datetime,
        *,
        subject: str = "payment",
        is_undoing: bool = False,
        **fields: Any,
    ) -> None:
        """`is_undoing`: whoever asked for the refund has led to it, not who placed the order."""
        payment = self._payment
        actor, traceparent = payment.actor, payment.traceparent
        if is_undoing:
            actor, traceparent = payment.refund_actor, payment.refund_traceparent
        self._entries.append(
            TimelineEntry(
                id=entry_id,
                source=source,
                kind=kind,
                subject=subject,
                time=time,
                actor=actor,
                trace_id=parse_trace_id(traceparent),
                **fields,
            )
        )
