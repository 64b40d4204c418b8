"""A running shop is given secrets at every entry point, and shows none of them in logs, spans, metrics and lists of
failures; and one look for an order's id finds lines of every service that handled it.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx2
import orjson
import pytest

from caravan import embedded
from caravan.clock import new_id
from caravan.runtime import BUS, Backends
from tests.support.collector import Collector, run_collector
from tests.support.program import ADDRESS, Program, run_one_process
from tests.support.shop import wait_until

PASSWORD, CARD, TOKEN = "canary-password-77", "4929123412341234", "canary-token-8812"
MAIL = "canary.person@canary-mail.example"
SECRETS = {"password": PASSWORD, "card": CARD, "token": TOKEN}
ENVELOPE = {
    "specversion": "1.0",
    "source": "/caravan/foreign",
    "dataversion": 1,
    "time": "2026-03-01T12:00:00Z",
    "datacontenttype": "application/json",
}
POISON = {
    "a payload that breaks the schema": {"password": PASSWORD, "card_number": CARD, "token": TOKEN, "lines": "none"},
    "secrets where none belong": {"order_id": f"password={PASSWORD}", "payment": {"card": {"number": CARD}}},
}
HANDLERS = {
    *("gateway", "orders", "processing", "inventory", "payments", "shipping"),
    *("notifications", "analytics", "recommendations"),
}


@dataclass
class Shown:
    """All that the shop let anybody see."""

    collector: Collector
    order_id: str = ""
    texts: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
async def shown(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shown]:
    data = tmp_path_factory.mktemp("canaries") / "shop"
    with run_collector() as collector:
        found = Shown(collector)
        settings = {"CARAVAN_OTLP_ENDPOINT": collector.endpoint, "CARAVAN_LOG_LEVEL": "info"}
        async with run_one_process(data, **settings) as program:
            await send_requests(program.client)
            customer = await sign_in(program.client)
            await send_orders(program, customer)
            await send_poison(data)
            found.order_id = await place_order(program)
            found.texts |= await read_lists(program)
        found.texts["terminal"] = (data / "up.log").read_text()
        lines = found.texts["terminal"].splitlines()
        found.texts["log"] = "\n".join(line for line in lines if line.startswith("{"))
        found.texts["spans"] = b"\n".join(collector.bodies["/v1/traces"]).decode("latin-1")
        found.texts["log lines"] = b"\n".join(collector.bodies["/v1/logs"]).decode("latin-1")
        yield found


async def sign_in(client: httpx2.AsyncClient) -> dict[str, str]:
    person = {"email": MAIL, "password": PASSWORD, "name": "Canary"}
    assert (await client.post("/v1/users", json=person)).status_code == 201
    assert (await client.post("/v1/users", json=person)).status_code == 409
    wrong = {"grant_type": "password", "username": MAIL, "password": f"{PASSWORD}-wrong"}
    assert (await client.post("/v1/auth/token", data=wrong)).status_code in (400, 401)
    right = await client.post("/v1/auth/token", data={**wrong, "password": PASSWORD})
    await client.post("/v1/auth/password-reset", json={"email": MAIL})
    return {"authorization": f"Bearer {right.json()['access_token']}"}


async def send_requests(client: httpx2.AsyncClient) -> None:
    """In headers, queries and paths, to whoever reads them."""
    query = "mutation($p: String!) { login(password: $p) { token } }"
    for method, path, more in (
        ("GET", "/v1/orders", {"headers": {"authorization": f"Bearer {TOKEN}"}}),
        ("GET", "/v1/orders", {"headers": {"cookie": f"session={TOKEN}; password={PASSWORD}"}}),
        ("GET", "/v1/products", {"params": {"search": "x", "token": TOKEN, "password": PASSWORD, "card": CARD}}),
        ("GET", f"/v1/notifications/unsubscribe/{TOKEN}", {}),
        ("GET", f"/v1/orders/{TOKEN}", {}),
        ("GET", "/v1/auth/callback", {"params": {"code": TOKEN, "state": TOKEN}}),
        ("POST", "/v1/auth/token", {"content": f"password={PASSWORD}&card={CARD}&grant_type=", "headers": {}}),
        ("POST", "/v1/users", {"content": f'{{"password": "{PASSWORD}", "card": "{CARD}'}),
        ("POST", "/v1/auth/password-reset/confirm", {"json": {"token": TOKEN, "password": PASSWORD}}),
        ("POST", "/graphql", {"json": {"query": query, "variables": {"p": PASSWORD}}}),
        ("GET", "/graphql", {"params": {"query": f'{{ login(password: "{PASSWORD}") }}'}}),
        ("POST", "/v1/auth/revoke", {"data": {"token": TOKEN}}),
    ):
        answer = await client.request(method, path, **more)
        assert answer.status_code < 500, (path, answer.text)


async def send_orders(program: Program, customer: dict[str, str]) -> None:
    sku = await program.create_product(stock=10)
    for payment in (
        {"method": "card", "token": TOKEN},
        {"method": "card", "token": "tok_ok", "card_number": CARD},
        {"method": CARD, "token": f"tok_{TOKEN}"},
    ):
        body = {"lines": [{"sku": sku, "quantity": 1}], "shipping_address": ADDRESS, "payment": payment}
        headers = {**customer, "Idempotency-Key": str(new_id())}
        assert (await program.client.post("/v1/orders", json=body, headers=headers)).status_code < 500


async def send_poison(data: Path) -> None:
    """Onto channels of each kind, past our own outbox, as a foreign producer would."""
    envelope = {**ENVELOPE, "subject": "canary", "actor": f"password={PASSWORD}"}
    backends = embedded.find_running(data)
    assert backends
    channels = [
        ("topic", "order-created", "", "orders.OrderCreated"),
        ("queue", "payments.expect", "", "payments.ExpectPayment"),
        ("exchange", "orders", "order.created", "orders.OrderCreated"),
    ]
    rows = [
        (kind, channel, route, "canary", new_id(), body)
        for kind, channel, route, name in channels
        for body in (
            *(
                orjson.dumps({**envelope, "id": str(new_id()), "type": name, "data": payload})
                for payload in POISON.values()
            ),
            orjson.dumps({**envelope, "id": f"password={PASSWORD}", "type": f"token={TOKEN}", "data": {}}),
            f'{{"password": "{PASSWORD}", "token": "{TOKEN}", "card_number": "{CARD}", '.encode(),
        )
    ]
    secret = (data / "secret").read_text().strip()
    url = Backends(backends.database_url, backends.redis_url, secret).get_database_url(BUS)
    connection = await asyncpg.connect(url)
    try:
        await connection.fetch(
            "SELECT publish($1, $2, $3, $4, $5, $6)", *(list(row) for row in zip(*rows, strict=True))
        )
    finally:
        await connection.close()


async def place_order(program: Program) -> str:
    who, sku = await program.register_customer(), await program.create_product(stock=10)
    orders = [str((await program.place_order(who, sku)).json()["id"]) for _ in range(5)]
    for order_id in orders:
        await program.wait_for_status(who, order_id, "delivered", seconds=60)
    return orders[2]


async def read_lists(program: Program) -> dict[str, str]:
    admin = await program.authorize_operator()

    async def fetch_failures() -> httpx2.Response | None:
        answer = await program.client.get("/v1/failures", headers=admin, params={"limit": 100})
        return answer if answer.text.count("canary") >= len(POISON) else None

    failures = await wait_until(fetch_failures)
    texts = {"failures": failures.text}
    for item in failures.json().get("items", []):
        texts["failures"] += (await program.client.get(f"/v1/failures/{item['id']}", headers=admin)).text
    texts["jobs"] = (await program.client.get("/v1/jobs", headers=admin)).text
    texts["metrics"] = (await program.client.get("/metrics")).text
    return texts


@pytest.mark.parametrize("place", ["terminal", "log lines", "spans", "metrics", "failures", "jobs"])
def test_no_secret_is_shown(shown: Shown, place: str) -> None:
    assert shown.texts[place]
    assert [name for name, secret in SECRETS.items() if secret in shown.texts[place]] == []


@pytest.mark.parametrize("place", ["log", "log lines", "spans", "metrics", "failures", "jobs"])
def test_no_mail_address_is_shown(shown: Shown, place: str) -> None:
    """But for the events that `caravan up` prints for whoever sits before it."""
    assert MAIL not in shown.texts[place]


def test_one_look_for_an_order_finds_lines_of_every_service_that_handled_it(shown: Shown) -> None:
    lines = [
        line
        for line in shown.collector.list_lines()
        if line.get("order_id") == shown.order_id or shown.order_id in line.get("order_ids", "")
    ]
    assert HANDLERS - {line["service"] for line in lines} == set()
    assert {"request handled", "messages handled"} <= {line["event"] for line in lines}
