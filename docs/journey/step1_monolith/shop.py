"""Step 1 of the journey: a whole shop in one program, one process, one database. An order is stock, payment and mail, one after the other, in one request.

    python docs/journey/step1_monolith/shop.py

It is what most shops start with, and it is fine until the mail server is not.
"""

import os
import smtplib
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol

import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

TABLES = """
CREATE TABLE IF NOT EXISTS product (sku TEXT PRIMARY KEY, name TEXT NOT NULL, price INTEGER NOT NULL, stock INTEGER NOT NULL CHECK (stock >= 0));
CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, email TEXT NOT NULL, sku TEXT NOT NULL, quantity INTEGER NOT NULL, total INTEGER NOT NULL);
INSERT OR IGNORE INTO product VALUES ('MUG', 'Mug', 1250, 100), ('LAMP', 'Lamp', 4000, 5);
"""
MAIL_SECONDS = 5


class PlaceOrder(BaseModel):
    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", examples=["ada@example.com"])
    sku: str = Field(examples=["MUG"])
    quantity: int = Field(ge=1, le=100)


class Order(BaseModel):
    id: str
    total: int
    status: str = "confirmed"


class CardProvider(Protocol):
    """Somebody else's computer: what it has charged is charged, whatever happens to our database."""

    def charge(self, order_id: str, amount: int) -> None: ...


class SimulatedProvider:
    def __init__(self, seconds: float = 0.2) -> None:
        self.seconds = seconds
        self.charges: dict[str, int] = {}

    def charge(self, order_id: str, amount: int) -> None:
        time.sleep(self.seconds)
        self.charges[order_id] = amount


def create_app(database: Path, mail_host: str, mail_port: int, cards: CardProvider) -> FastAPI:
    app = FastAPI(title="The monolith")

    @contextmanager
    def transaction() -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(database, timeout=10, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        finally:
            connection.close()

    setup = sqlite3.connect(database)
    setup.executescript(TABLES)
    setup.close()

    @app.post("/orders", status_code=201)
    def place_order(order: PlaceOrder) -> Order:
        order_id = str(uuid.uuid4())
        with transaction() as connection:
            total = take_stock(connection, order)
            cards.charge(order_id, total)
            connection.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", (order_id, order.email, order.sku, order.quantity, total))
            send_confirmation(order.email, order_id, total)
        return Order(id=order_id, total=total)

    def take_stock(connection: sqlite3.Connection, order: PlaceOrder) -> int:
        row = connection.execute(
            "UPDATE product SET stock = stock - ? WHERE sku = ? AND stock >= ? RETURNING price", (order.quantity, order.sku, order.quantity)
        ).fetchone()
        if row is None:
            raise HTTPException(409, f"not enough {order.sku} in stock")
        return int(row[0]) * order.quantity

    def send_confirmation(email: str, order_id: str, total: int) -> None:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "shop@example.com", email, f"Your order {order_id}"
        message.set_content(f"Thank you. {total // 100}.{total % 100:02} were charged.")
        try:
            with smtplib.SMTP(mail_host, mail_port, timeout=MAIL_SECONDS) as server:
                server.send_message(message)
        except (OSError, smtplib.SMTPException) as error:
            raise HTTPException(503, "the order could not be placed: no confirmation could be sent") from error

    @app.get("/orders")
    def list_orders() -> list[Order]:
        with transaction() as connection:
            return [Order(id=row[0], total=row[1]) for row in connection.execute("SELECT id, total FROM orders")]

    @app.get("/products/{sku}")
    def read_product(sku: str) -> dict[str, str | int]:
        with transaction() as connection:
            row = connection.execute("SELECT sku, name, price, stock FROM product WHERE sku = ?", (sku,)).fetchone()
        if row is None:
            raise HTTPException(404, f"no product {sku}")
        return dict(zip(("sku", "name", "price", "stock"), row, strict=True))

    return app


if __name__ == "__main__":
    mail_host, _, mail_port = os.environ.get("MAIL", "127.0.0.1:1025").partition(":")
    uvicorn.run(create_app(Path("monolith.sqlite"), mail_host, int(mail_port), SimulatedProvider()), port=8081)
