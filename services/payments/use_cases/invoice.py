"""The invoice of a paid order: a job draws its PDF after the payment; until then whoever asks has it drawn at once."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

from caravan.auth import Caller
from caravan.errors import NotFound
from caravan.jobs import Job, JobsAway, NewJob
from services.payments import store
from services.payments.drawing import render
from services.payments.model import invoice_number
from services.payments.use_cases import DRAW_JOB, PaymentsContext

RUN_SECONDS = 60.0
"""A job with more to draw than this ends; the sweeper goes on with the next one."""


class NotDrawn(Exception):
    """Invoices that can't be drawn; the text names them and the reason."""


@dataclass(frozen=True, slots=True)
class Invoice:
    name: str
    pdf: bytes


async def read(context: PaymentsContext, caller: Caller, order_id: UUID) -> Invoice:
    bill = await store.bill(context.database, order_id)
    if bill is None or not caller.may_see(bill["user_id"]):
        raise NotFound(f"no invoice for order {order_id}: it has one once it is paid")
    pdf = bill["pdf"]
    if pdf is None:
        async with context.parts.drawing:
            pdf = await asyncio.to_thread(render, dict(bill))
    return Invoice(invoice_number(bill["number"]), pdf)


async def draw_due(context: PaymentsContext, job: Job) -> dict[str, int]:
    """The job: draw what has no document yet, or an old one, in the order of the numbers."""
    loop, drawn, after = asyncio.get_running_loop(), 0, 0
    end, failures = loop.time() + RUN_SECONDS, list[str]()
    while not job.stopping() and loop.time() < end:
        bills = await store.undrawn(context.database, after)
        if not bills:
            break
        answers = await context.parts.drawer.draw([dict(bill) for bill in bills])
        good = [(bill, pdf) for bill, pdf in zip(bills, answers, strict=True) if isinstance(pdf, bytes)]
        await store.keep_documents(context.database, [(bill["order_id"], bill["revision"], pdf) for bill, pdf in good])
        failures += [f"{invoice_number(bill['number'])}: {why}" for bill, why in zip(bills, answers, strict=True) if isinstance(why, str)]
        drawn, after = drawn + len(good), bills[-1]["number"]
        await job.report(drawn)
    if failures:
        raise NotDrawn(f"{len(failures)} of {drawn + len(failures)} invoices could not be drawn: {'; '.join(failures[:5])}")
    return {"drawn": drawn}


async def sweep(context: PaymentsContext) -> bool:
    """What no job has drawn: make the job again. Without Redis nobody draws ahead, and whoever asks still gets an invoice."""
    if await store.undrawn(context.database, 0, limit=1):
        try:
            await context.jobs.enqueue(DRAW_JOB, NewJob(id="sweep", kept="never"))
        except JobsAway:
            pass
    return False
