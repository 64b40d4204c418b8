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
    charge_order,
    confirm,
    insert_order,
    list_orders,
    serve,
)
from docs.journey.storage import create_tables, transaction
from docs.journey.third_parties import CardProvider

RESPONSE_SECONDS = 5


class ServiceClient:
    """Calls another service: what was a function call can now be late, lost, or refused."""

    def __init__(self, name: str, url: str, headers: dict[str, str]) -> None:
        self.name = name
        self.http = httpx2.Client(base_url=url, headers=headers, timeout=RESPONSE_SECONDS)

    def send_request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON of the response. Raises HTTPException: the service's own refusal (4xx), or 503."""
        try:
            response = self.http.request(method, path, json=body)
        except httpx2.TransportError as error:
            raise HTTPException(503, f"{self.name} can't be reached: {type(error).__name__}") from error
        if response.is_success:
            return response.json() if response.content else None
        if response.status_code in (404, 409):
            raise HTTPException(response.status_code, response.json()["detail"])
        raise HTTPException(503, f"{self.name} answered {response.status_code}")


def create_clients(headers: dict[str, str] | None = None) -> tuple[ServiceClient, ServiceClient]:
    """The clients of users and products, at USERS_URL and PRODUCTS_URL."""
    users = ServiceClient("users", os.environ.get("USERS_URL", "http://127.0.0.1:8081"), headers or {})
    return users, ServiceClient("products", os.environ.get("PRODUCTS_URL", "http://127.0.0.1:8082"), headers or {})


Pay = Callable[[Order, str], None]
Confirm = Callable[[str, Order], None]
DATABASE = Path("orders.sqlite")


def create_app(
    users: ServiceClient, products: ServiceClient, pay: Pay, confirm: Confirm, database: Path = DATABASE
) -> FastAPI:
    """`pay` and `confirm` are what the next steps replace; they raise to refuse the order."""
    app = FastAPI(title="Orders")
    create_tables(database, ORDERS)

    @app.post("/orders", status_code=201)
    def place_order(request: PlaceOrder) -> Order:
        email = users.send_request("GET", f"/users/{request.user_id}")["email"]
        result = products.send_request("POST", f"/products/{request.sku}/take", {"quantity": request.quantity})
        order = Order(id=str(uuid.uuid4()), total=result["total"])
        try:
            pay(order, request.card)
            with transaction(database) as connection:
                insert_order(connection, request, order)
            confirm(email, order)
        except BaseException:  # a process that dies here undoes nothing
            with transaction(database) as connection:
                connection.execute("DELETE FROM orders WHERE id = ?", (order.id,))
            products.send_request("POST", f"/products/{request.sku}/give-back", {"quantity": request.quantity})
            raise
        return order

    @app.get("/orders")
    def read_orders() -> list[Order]:
        with transaction(database) as connection:
            return list_orders(connection)

    return app


def charge_card(order: Order, card: str) -> None:
    charge_order(CardProvider(), order, card)


if __name__ == "__main__":
    asyncio.run(serve(create_app(*create_clients(), charge_card, confirm), 8083))
