"""Step 1 of the journey: a whole shop in one program, one process, one database. An order is stock, payment and mail,
one after the other, in one request.

    python docs/journey/step1_monolith/shop.py

It is what most shops start with, and it is fine until the mail server is not. The steps after it import from here what
they don't change.
"""

import asyncio
import os
import smtplib
import sqlite3
import uuid
from pathlib import Path
from typing import Literal

import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

from docs.journey.storage import create_tables, transaction
from docs.journey.third_parties import CardProvider, ProviderUnavailable, send_mail

USERS = "CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE);"
PRODUCTS = """
CREATE TABLE IF NOT EXISTS product (sku TEXT PRIMARY KEY, name TEXT NOT NULL, price INTEGER NOT NULL,
    stock INTEGER NOT NULL CHECK (stock >= 0));
INSERT OR IGNORE INTO product VALUES ('MUG', 'Mug', 1250, 100), ('LAMP', 'Lamp', 4000, 5);
"""
ORDERS = (
    "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, user_id TEXT, sku TEXT, quantity INTEGER, card TEXT, "
    "total INTEGER, status TEXT);"
)


class NewUser(BaseModel):
    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", examples=["ada@example.com"])


class User(NewUser):
    id: str


class PlaceOrder(BaseModel):
    user_id: str
    sku: str = Field(examples=["MUG"])
    quantity: int = Field(ge=1, le=100)
    card: Literal["tok_ok", "tok_flaky", "tok_unavailable"] = "tok_ok"


class Order(BaseModel):
    id: str
    total: int = Field(description="in pence")
    status: str = "confirmed"


def insert_user(connection: sqlite3.Connection, user: NewUser) -> User:
    try:
        row = connection.execute(
            "INSERT INTO users VALUES (?, ?) RETURNING id, email", (str(uuid.uuid4()), user.email)
        ).fetchone()
    except sqlite3.IntegrityError as error:
        raise HTTPException(409, f"{user.email} is registered already") from error
    return User(id=row[0], email=row[1])


def find_user(connection: sqlite3.Connection, user_id: str) -> User:
    row = connection.execute("SELECT id, email FROM users WHERE id = ?", (user_id,)).fetchone()
    if row is None:
        raise HTTPException(404, f"no user {user_id}")
    return User(id=row[0], email=row[1])


def find_product(connection: sqlite3.Connection, sku: str) -> dict[str, str | int]:
    row = connection.execute("SELECT sku, name, price, stock FROM product WHERE sku = ?", (sku,)).fetchone()
    if row is None:
        raise HTTPException(404, f"no product {sku}")
    return dict(zip(("sku", "name", "price", "stock"), row, strict=True))


def take_stock(connection: sqlite3.Connection, sku: str, quantity: int) -> int:
    """The price of what was taken."""
    row = connection.execute(
        "UPDATE product SET stock = stock - ? WHERE sku = ? AND stock >= ? RETURNING price", (quantity, sku, quantity)
    ).fetchone()
    if row is None:
        raise HTTPException(409, f"not enough {sku} in stock")
    return int(row[0]) * quantity


def insert_order(connection: sqlite3.Connection, request: PlaceOrder, order: Order) -> None:
    row = (order.id, request.user_id, request.sku, request.quantity, request.card, order.total, order.status)
    connection.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def list_orders(connection: sqlite3.Connection) -> list[Order]:
    return [
        Order(id=row[0], total=row[1], status=row[2])
        for row in connection.execute("SELECT id, total, status FROM orders")
    ]


def charge_order(cards: CardProvider, order: Order, card: str) -> None:
    try:
        cards.charge(order.id, order.total, card)
    except ProviderUnavailable as error:
        raise HTTPException(503, f"the order could not be placed: {error}") from error


def render_confirmation(order: Order) -> tuple[str, str]:
    """Subject and text."""
    return f"Your order {order.id}", f"Thank you. {order.total // 100}.{order.total % 100:02} were charged."


def confirm(email: str, order: Order) -> None:
    try:
        send_mail(email, *render_confirmation(order))
    except (OSError, smtplib.SMTPException) as error:
        raise HTTPException(503, "the order could not be placed: no confirmation could be sent") from error


async def serve(app: FastAPI, port: int) -> None:
    await uvicorn.Server(uvicorn.Config(app, port=int(os.environ.get("PORT", port)))).serve()


def create_app(database: Path, cards: CardProvider) -> FastAPI:
    app = FastAPI(title="The monolith")
    create_tables(database, USERS + PRODUCTS + ORDERS)

    @app.post("/users", status_code=201)
    def register(user: NewUser) -> User:
        with transaction(database) as connection:
            return insert_user(connection, user)

    @app.get("/products/{sku}")
    def read_product(sku: str) -> dict[str, str | int]:
        with transaction(database) as connection:
            return find_product(connection, sku)

    @app.post("/orders", status_code=201)
    def place_order(request: PlaceOrder) -> Order:
        with transaction(database) as connection:
            user = find_user(connection, request.user_id)
            order = Order(id=str(uuid.uuid4()), total=take_stock(connection, request.sku, request.quantity))
            charge_order(cards, order, request.card)
            insert_order(connection, request, order)
            confirm(user.email, order)
        return order

    @app.get("/orders")
    def read_orders() -> list[Order]:
        with transaction(database) as connection:
            return list_orders(connection)

    return app


if __name__ == "__main__":
    asyncio.run(serve(create_app(Path("monolith.sqlite"), CardProvider()), 8081))
