"""Step 5: the worker of orders does its jobs. Start more of it when there is more to do.

python docs/journey/step5_jobs/worker.py
"""

import asyncio
import signal
from pathlib import Path

from bullmq import Job, Queue, UnrecoverableError, Worker

from docs.journey.step1_monolith.shop import Order, render_confirmation
from docs.journey.step2_extracted.orders import DATABASE, create_clients
from docs.journey.step3_gateway.inside import HEADER, read_credential
from docs.journey.step5_jobs.jobs import CONNECTION, NAME
from docs.journey.step5_jobs.orders import add_jobs_after_payment
from docs.journey.storage import create_tables, transaction
from docs.journey.third_parties import CardProvider, ProviderUnavailable, send_mail

INVOICES = Path("invoices")
INVOICE_NUMBERS = "CREATE TABLE IF NOT EXISTS invoice (number INTEGER PRIMARY KEY, order_id TEXT NOT NULL UNIQUE);"

cards = CardProvider()
users, products = create_clients({HEADER: read_credential()})


def send_confirmation(email: str, order: Order) -> None:
    """May be sent twice when the worker dies between the sending and the note that it is done."""
    send_mail(email, *render_confirmation(order))


def write_invoice(order: Order) -> None:
    """One number per order, without holes; done again, it writes the same."""
    with transaction(DATABASE) as connection:
        connection.execute(
            "INSERT OR IGNORE INTO invoice SELECT coalesce(max(number), 0) + 1, ? FROM invoice", (order.id,)
        )
        number = connection.execute("SELECT number FROM invoice WHERE order_id = ?", (order.id,)).fetchone()[0]
    (INVOICES / f"{number:05}.txt").write_text(
        f"Invoice {number}\nOrder {order.id}\nTotal {order.total // 100}.{order.total % 100:02}\n"
    )


def retry_charge(order: Order, *, is_last_attempt: bool) -> str:
    """The customer's address, once the order is paid.

    Raises ProviderUnavailable for another attempt; the last one returns the stock.
    """
    with transaction(DATABASE) as connection:
        row = connection.execute(
            "SELECT user_id, sku, quantity, card, status FROM orders WHERE id = ?", (order.id,)
        ).fetchone()
    if row is None:
        raise UnrecoverableError(f"no order {order.id}: it was refused after its job had been added")
    user_id, sku, quantity, card, status = row
    if status == "payment failed":
        raise UnrecoverableError(f"order {order.id} was given up; its stock was returned")
    try:
        cards.charge(
            order.id, order.total, card
        )  # the same key as in the request: charged once, however often this runs
    except ProviderUnavailable:
        if is_last_attempt:
            set_status(order, "payment failed")
            products.send_request("POST", f"/products/{sku}/give-back", {"quantity": quantity})
        raise
    email: str = users.send_request("GET", f"/users/{user_id}")["email"]
    set_status(order, "confirmed")
    return email


def set_status(order: Order, status: str) -> None:
    order.status = status
    with transaction(DATABASE) as connection:
        connection.execute("UPDATE orders SET status = ? WHERE id = ?", (status, order.id))


async def main() -> None:
    INVOICES.mkdir(exist_ok=True)
    create_tables(DATABASE, INVOICE_NUMBERS)
    queue = Queue(NAME, CONNECTION)

    async def run_job(job: Job, _: str) -> None:
        order = Order(**job.data["order"])
        match job.name:
            case "mail":
                await asyncio.to_thread(send_confirmation, job.data["email"], order)
            case "invoice":
                await asyncio.to_thread(write_invoice, order)
            case "charge":
                is_last_attempt = job.attemptsMade + 1 >= job.opts["attempts"]
                email = await asyncio.to_thread(retry_charge, order, is_last_attempt=is_last_attempt)
                await add_jobs_after_payment(queue, email, order)

    stop_requested = asyncio.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop_requested.set)
    worker = Worker(NAME, run_job, {**CONNECTION, "concurrency": 5})
    print("the worker is running", flush=True)
    await stop_requested.wait()
    await worker.close()
    await queue.close()


if __name__ == "__main__":
    asyncio.run(main())
