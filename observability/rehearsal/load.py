"""Light load: a few customers who look around and order, some who register, and an operator who changes prices and
counts stock, at a steady rate, for as long as the rehearsal runs.
"""

import asyncio
import itertools
import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

import httpx2

from cli.api_client import ApiClient

ADDRESS = {"name": "Rehearsal", "street": "1 Caravan Road", "city": "London", "postcode": "N1 1AA", "country": "GB"}
SKUS = ("MUG-BLUE", "MUG-RED", "TEA-MINT", "CANDLES", "DATES")
CUSTOMERS = 5
TOKEN_SECONDS = 300
OPERATE_SECONDS = 5
MAX_ATTEMPTS = 200


@dataclass
class Load:
    """`with Load(url) as load:` orders in a thread of its own. `orders_per_second` 0: nobody orders."""

    url: str
    secret: str
    """The shop's, for the operator's token."""
    orders_per_second: float = 1.0
    guesses_per_second: float = 0.0
    """Wrong passwords for one account from one address: after a few of them they are refused without work."""
    answers: Counter[str] = field(default_factory=Counter)
    _is_stopping: bool = False

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_stopping = True
        self._thread.join(30)

    async def _run(self) -> None:
        async with httpx2.AsyncClient(base_url=self.url, timeout=60, limits=httpx2.Limits(max_connections=400)) as http:
            client = ApiClient(http, self.secret, lambda _: None, max_wait_seconds=0)
            await asyncio.gather(
                *(self._shop_around(http, number) for number in range(CUSTOMERS)),
                self._guess(http),
                self._operate(client),
            )

    async def _shop_around(self, http: httpx2.AsyncClient, number: int) -> None:
        email, password = f"rehearsal-{secrets.token_hex(4)}@example.com", secrets.token_urlsafe(12)
        headers: dict[str, str] = {}
        renew_at = 0.0
        is_registered = False
        for turn in itertools.count(number):
            if self._is_stopping:
                return
            started_at = time.monotonic()
            try:
                if not is_registered:
                    body = {"email": email, "password": password, "name": "Rehearsal"}
                    is_registered = (await http.post("/v1/users", json=body)).status_code in (201, 409)
                if started_at >= renew_at:
                    form = {"grant_type": "password", "username": email, "password": password}
                    token = await http.post("/v1/auth/token", data=form)
                    headers = {"authorization": f"Bearer {token.json()['access_token']}"}
                    renew_at = started_at + TOKEN_SECONDS
                sku = SKUS[turn % len(SKUS)]
                self._count("read", await http.get(f"/v1/products/{sku}"))
                self._count("read", await http.get(f"/v1/products/{sku}/recommendations"))
                self._count("read", await http.get("/v1/orders", headers=headers))
                if self.orders_per_second:
                    await self._order(http, headers, sku)
            except Exception as error:  # a shop in trouble is what is rehearsed: customers come again
                self.answers[type(error).__name__] += 1
            pause = CUSTOMERS / self.orders_per_second if self.orders_per_second else CUSTOMERS
            await asyncio.sleep(max(0.1, started_at + pause - time.monotonic()))

    async def _order(self, http: httpx2.AsyncClient, headers: dict[str, str], sku: str) -> None:
        body: dict[str, Any] = {
            "lines": [{"sku": sku, "quantity": 1}],
            "shipping_address": ADDRESS,
            "payment": {"method": "card", "token": "tok_ok"},
        }
        key = secrets.token_hex(16)
        self._count("order", await http.post("/v1/orders", json=body, headers=headers | {"Idempotency-Key": key}))

    async def _guess(self, http: httpx2.AsyncClient) -> None:
        """Each attempt apart, so that a slow answer does not slow the others down."""
        attempts: set[asyncio.Task[None]] = set()
        for number in itertools.count():
            if self._is_stopping:
                break
            if self.guesses_per_second and len(attempts) < MAX_ATTEMPTS:
                attempts.add(attempt := asyncio.create_task(self._try_password(http, number)))
                attempt.add_done_callback(attempts.discard)
            await asyncio.sleep(1 / (self.guesses_per_second or 2))
        for attempt in attempts:
            attempt.cancel()

    async def _try_password(self, http: httpx2.AsyncClient, number: int) -> None:
        form = {"grant_type": "password", "username": "nobody@example.com", "password": f"wrong-{number}"}
        forwarded = {"x-forwarded-for": "198.51.100.7"}
        try:
            self._count("guess", await http.post("/v1/auth/token", data=form, headers=forwarded))
        except Exception as error:  # as above
            self.answers[type(error).__name__] += 1

    async def _operate(self, client: ApiClient) -> None:
        """Enough of everything is in stock; and each service has something to tell."""
        receipts = [
            {"sku": sku, "kind": "receive", "quantity": 100_000, "reason": "rehearsal", "reference": f"rehearsal-{sku}"}
            for sku in SKUS
        ]
        for turn in itertools.count():
            if self._is_stopping:
                return
            try:
                if turn == 0:
                    key = "stock of the rehearsal"
                    await client.send_request("POST", "/v1/stock/movements", body={"movements": receipts}, key=key)
                product = {
                    "sku": "LANTERN",
                    "name": "Oil lantern",
                    "description": "Oil lantern.",
                    "category": "light",
                    "price": {"amount": 2400 + turn % 100, "currency": "GBP"},
                    "attributes": {},
                }
                await client.send_request("PUT", "/v1/products", body={"products": [product]})
                person = {
                    "email": f"rehearsal-{secrets.token_hex(4)}@example.com",
                    "password": secrets.token_urlsafe(12),
                    "name": "Rehearsal",
                }
                await client.send_request("POST", "/v1/users", body=person, customer=None)
                self.answers["operated"] += 1
            except Exception as error:  # as above
                self.answers[f"operated {type(error).__name__} {error}"[:80]] += 1
            await asyncio.sleep(OPERATE_SECONDS)

    def _count(self, what: str, answer: httpx2.Response) -> None:
        self.answers[f"{what} {answer.status_code}"] += 1
