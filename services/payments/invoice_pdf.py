"""The PDF of an invoice, drawn outside the service's process: what customers typed can at worst end a worker process.

`invoice_renderer.py` is what runs in a worker. `use_cases/invoice.py` asks, and keeps the document.
"""

import asyncio
import multiprocessing
import re
from collections.abc import Awaitable, Callable, Hashable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

import orjson

from caravan.errors import CapacityExceeded, TooManyRequests
from caravan.money import Money
from caravan.telemetry import log
from services.payments.invoice_renderer import DocumentRow, InvoiceDocument, prepare_worker, render_pdf
from services.payments.messages import InvoiceLine
from services.payments.model import build_invoice_rows, format_credit_note_number, format_invoice_number

RENDER_SECONDS = 60.0
"""A worker that takes longer hangs, and is killed: the longest legal invoice takes a few seconds."""


def build_document(invoice_data: Mapping[str, Any]) -> InvoiceDocument:
    """What the invoice of this row says."""
    amount, currency = invoice_data["amount"], invoice_data["currency"]
    lines = [InvoiceLine(**line) for line in orjson.loads(invoice_data["lines"])]
    total_rows = [["Total", "", "", _format_money(amount, currency)]]
    refund_note, refund_reason = "", ""
    if invoice_data["refunded_at"] is not None:
        refunded = invoice_data["refunded"]
        credit_note = f"Credit note {format_credit_note_number(invoice_data['credit_note'])}"
        total_rows.append([credit_note, "", "", _format_money(-refunded, currency)])
        total_rows.append(["Balance", "", "", _format_money(amount - refunded, currency)])
        refund_note = f"Refunded on {invoice_data['refunded_at']:%Y-%m-%d}: "
        refund_reason = invoice_data["refund_reason"]
    return InvoiceDocument(
        title=f"Invoice {format_invoice_number(invoice_data['number'])}",
        head=[f"Issued {invoice_data['issued_at']:%Y-%m-%d}", f"Order {invoice_data['order_id']}"],
        address=[
            invoice_data["customer_name"],
            *re.split(r"[\r\n]+", invoice_data["billing_address"]),
            invoice_data["email"],
        ],
        rows=[
            DocumentRow(
                row.name,
                row.sku,
                str(row.quantity),
                _format_money(row.unit_price, currency),
                _format_money(row.amount, currency),
            )
            for row in build_invoice_rows(lines, amount)
        ],
        total_rows=total_rows,
        refund_note=refund_note,
        refund_reason=refund_reason,
        issued_at=int(invoice_data["issued_at"].timestamp()),
    )


def _format_money(amount: int, currency: str) -> str:
    return str(Money(amount=amount, currency=currency))


class RenderPool:
    """A few worker processes, started when the first document is asked for. One that hangs is killed at the deadline,
    and the others with it: what they were drawing is begun again in new ones.
    """

    def __init__(
        self, max_workers: int, seconds: float = RENDER_SECONDS, render: Callable[..., bytes] = render_pdf
    ) -> None:
        self._max_workers = max_workers
        self._seconds = seconds
        self._render = render
        self._executor: ProcessPoolExecutor | None = None

    async def render(self, document: InvoiceDocument) -> bytes:
        """Raises CapacityExceeded after the deadline, and when the worker died twice."""
        for _ in range(2):
            executor = self._executor or self._start_executor()
            try:
                async with asyncio.timeout(self._seconds):
                    return await asyncio.get_running_loop().run_in_executor(executor, self._render, document)
            except TimeoutError:
                self._discard_executor(executor)
                raise CapacityExceeded("the invoice takes too long to draw", retry_after=60) from None
            except BrokenProcessPool:
                self._discard_executor(executor)
        raise CapacityExceeded("the invoice can't be drawn now", retry_after=60)

    def close(self) -> None:
        if self._executor is not None:
            self._discard_executor(self._executor)

    def _start_executor(self) -> ProcessPoolExecutor:
        # Spawned: a fork would copy this process's threads' locks, and its connections.
        self._executor = ProcessPoolExecutor(
            self._max_workers, multiprocessing.get_context("spawn"), initializer=prepare_worker
        )
        return self._executor

    def _discard_executor(self, executor: ProcessPoolExecutor) -> None:
        if self._executor is executor:
            self._executor = None
        for worker in list((executor._processes or {}).values()):  # kill_workers() has come with Python 3.14
            worker.kill()
        executor.shutdown(wait=False, cancel_futures=True)


class InvoiceRenderer:
    """What is being drawn: each document once, whoever asks for it meanwhile, and to its end, also when nobody waits
    for it any more. A long one takes longer than a reader may wait: it is there for the next who asks, instead of being
    begun anew by each.
    """

    def __init__(self, *, concurrency: int, max_waiting: int) -> None:
        self.pool = RenderPool(concurrency)
        self._slots = asyncio.Semaphore(concurrency)
        self._max_documents = concurrency + max_waiting
        self._tasks: dict[Hashable, asyncio.Task[bytes]] = {}

    async def render_once(self, name: Hashable, render: Callable[[], Awaitable[bytes]]) -> bytes:
        """The document of this name, by `render` unless that is under way. TooManyRequests when too many wait."""
        task = self._tasks.get(name)
        if task is None:
            if len(self._tasks) >= self._max_documents:
                raise TooManyRequests("many invoices are being drawn; ask again in a moment", retry_after=2)
            task = self._tasks[name] = asyncio.create_task(self._render_in_slot(render))
            task.add_done_callback(partial(self._remove_task, name))
        return await asyncio.shield(task)

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.pool.close()

    async def _render_in_slot(self, render: Callable[[], Awaitable[bytes]]) -> bytes:
        async with self._slots:
            return await render()

    def _remove_task(self, name: Hashable, task: asyncio.Task[bytes]) -> None:
        del self._tasks[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a document was not drawn", error=repr(error))
