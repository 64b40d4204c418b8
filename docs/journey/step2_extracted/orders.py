"""Step 2: what is left of the monolith asks the two services that were taken out of it.

python docs/journey/step2_extracted/orders.py
"""

import asyncio
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI, HTTPException

from docs.journey.step1_monolith.shop import (
    ORDERS,
    Order,
    PlaceOrder,
    charge,
    confirm,
    insert_order,
    list_orders,
    serve,
)
from docs.journey.storage import make_tables, transaction
from docs.journey.third_parties import CardProvider

ANSWER_SECONDS = 5


class Neighbour:
    """Another service: what was a function call can now be late, lost, or refused."""

    def __init__(self, name: str, url: str, headers: dict[str, str]) -> None:
        self.name = name
        self.http = httpx2.Client(base_url=url, headers=headers, timeout=ANSWER_SECONDS)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON of the answer. Raises HTTPException: the neighbour's own refusal (4xx), or 503."""
        try:
            answer = self.http.request(method, path, json=body)
        except httpx2.TransportError as error:
            raise HTTPException(503, f"{self.name} can't be reached: {type(error).__name__}") from error
        if answer.is_success:
            return answer.json() if answer.content else None
        if answer.status_code in (404, 409):
            raise HTTPException(answer.status_code, answer.json()["detail"])
        raise HTTPException(503, f"{self.name} answered {answer.status_code}")


def neighbours(headers: dict[str, str] | None = None) -> tuple[Neighbour, Neighbour]:
    """Users and products, where USERS_URL and PRODUCTS_URL say."""
    users = Neighbour("users", os.environ.get("USERS_URL", "http://127.0.0.1:8081"), headers or {})
    return users, Neighbour("products", os.environ.get("PRODUCTS_URL", "http://127.0.0.1:8082"), headers or {})


Pay = Callable[[Order, str], None]
Confirm = Callable[[str, Order], None]
DATABASE = Path("orders.sqlite")


def create_app(users: Neighbour, products: Neighbour, pay: Pay, confirm: Confirm, database: Path = DATABASE) -> FastAPI:
    """`pay` and `confirm` are what the next steps replace; they raise to refuse the order."""
    app = FastAPI(title="Orders")
    make_tables(database, ORDERS)

    @app.post("/orders", status_code=201)
    def place_order(wanted: PlaceOrder) -> Order:
        email = users.ask("GET", f"/users/{wanted.user_id}")["email"]
        taken = products.ask("POST", f"/products/{wanted.sku}/take", {"quantity": wanted.quantity})
        order = Order(id=str(uuid.uuid4()), total=taken["total"])
        try:
            pay(order, wanted.card)
            with transaction(database) as connection:
                insert_order(connection, wanted, order)
            confirm(email, order)
        except BaseException:  # a process that dies here undoes nothing
            with transaction(database) as connection:
                connection.execute("DELETE FROM orders WHERE id = ?", (order.id,))
            products.ask("POST", f"/products/{wanted.sku}/give-back", {"quantity": wanted.quantity})
            raise
        return order

    @app.get("/orders")
    def read_orders() -> list[Order]:
        with transaction(database) as connection:
            return list_orders(connection)

    return app


def charge_at_once(order: Order, card: str) -> None:
    charge(CardProvider(), order, card)


if __name__ == "__main__":
    asyncio.run(serve(create_app(*neighbours(), charge_at_once, confirm), 8083))
