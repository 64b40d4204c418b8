"""Step 5: the worker of orders does its jobs. Start more of it when there is more to do.

python docs/journey/step5_jobs/worker.py
"""

import asyncio
import signal
from pathlib import Path

from bullmq import Job, Queue, UnrecoverableError, Worker

from docs.journey.step1_monolith.shop import Order, confirmation
from docs.journey.step2_extracted.orders import DATABASE, neighbours
from docs.journey.step3_gateway.inside import HEADER, credential
from docs.journey.step5_jobs.jobs import CONNECTION, NAME
from docs.journey.step5_jobs.orders import after_payment
from docs.journey.storage import make_tables, transaction
from docs.journey.third_parties import CardProvider, ProviderAway, send_mail

INVOICES = Path("invoices")
INVOICE_NUMBERS = "CREATE TABLE IF NOT EXISTS invoice (number INTEGER PRIMARY KEY, order_id TEXT NOT NULL UNIQUE);"

cards = CardProvider()
users, products = neighbours({HEADER: credential()})


def mail(email: str, order: Order) -> None:
    """May be sent twice when the worker dies between the sending and the note that it is done."""
    send_mail(email, *confirmation(order))


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


def charge(order: Order, *, last: bool) -> str:
    """The customer's address, once the order is paid. Raises ProviderAway for another try; the last one gives the stock
    back.
    """
    with transaction(DATABASE) as connection:
        row = connection.execute(
            "SELECT user_id, sku, quantity, card, status FROM orders WHERE id = ?", (order.id,)
        ).fetchone()
    if row is None:
        raise UnrecoverableError(f"no order {order.id}: it was refused after its job had been added")
    user_id, sku, quantity, card, status = row
    if status == "payment failed":
        raise UnrecoverableError(f"order {order.id} was given up; its stock went back")
    try:
        cards.charge(
            order.id, order.total, card
        )  # the same key as in the request: charged once, however often this runs
    except ProviderAway:
        if last:
            set_status(order, "payment failed")
            products.ask("POST", f"/products/{sku}/give-back", {"quantity": quantity})
        raise
    email: str = users.ask("GET", f"/users/{user_id}")["email"]
    set_status(order, "confirmed")
    return email


def set_status(order: Order, status: str) -> None:
    order.status = status
    with transaction(DATABASE) as connection:
        connection.execute("UPDATE orders SET status = ? WHERE id = ?", (status, order.id))


async def main() -> None:
    INVOICES.mkdir(exist_ok=True)
    make_tables(DATABASE, INVOICE_NUMBERS)
    queue = Queue(NAME, CONNECTION)

    async def work(job: Job, _: str) -> None:
        order = Order(**job.data["order"])
        match job.name:
            case "mail":
                await asyncio.to_thread(mail, job.data["email"], order)
            case "invoice":
                await asyncio.to_thread(write_invoice, order)
            case "charge":
                last = job.attemptsMade + 1 >= job.opts["attempts"]
                email = await asyncio.to_thread(charge, order, last=last)
                await after_payment(queue, email, order)

    stopping = asyncio.Event()
    for ending in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(ending, stopping.set)
    worker = Worker(NAME, work, {**CONNECTION, "concurrency": 5})
    print("the worker is running", flush=True)
    await stopping.wait()
    await worker.close()
    await queue.close()


if __name__ == "__main__":
    asyncio.run(main())
