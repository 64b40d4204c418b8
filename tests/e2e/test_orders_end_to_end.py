"""What a customer and an operator see, over HTTP only, whatever the number of processes."""

import asyncio
import io
import time
from typing import Any

import pypdf
import pytest

from caravan.clock import new_id
from tests.support.program import Program
from tests.support.shop import wait_until


async def test_an_order_is_paid_within_two_seconds_and_then_delivered_with_mail_invoice_and_history(
    program: Program,
) -> None:
    who, sku = await program.register_customer(), await program.create_product(stock=10, price=1250)
    started = time.monotonic()
    accepted = await program.place_order(who, sku, quantity=2)
    assert accepted.status_code == 202, accepted.text
    order_id = accepted.json()["id"]

    async def paid() -> bool:
        return (await program.get_order(who, order_id))["status"] in ("paid", "shipped", "delivered")

    await wait_until(paid, seconds=5)
    assert time.monotonic() - started < 2
    order = await program.wait_for_status(who, order_id, "delivered")
    assert order["total"] == {"amount": 2500, "currency": "GBP"}
    history = (await program.client.get(f"/v1/orders/{order_id}/history", headers=who)).json()["items"]
    assert {entry["type"] for entry in history} == {
        "OrderCreated",
        "InventoryReserved",
        "PaymentCompleted",
        "OrderShipped",
        "OrderDelivered",
    }
    assert len({entry["trace_id"] for entry in history[:3]}) == 1, "the first steps stand in one trace"
    invoice = await program.client.get(f"/v1/orders/{order_id}/invoice", headers=who)
    assert invoice.headers["content-type"] == "application/pdf"
    assert "25.00" in "".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(invoice.content)).pages)
    assert await program.get_stock(sku) == {"sku": sku, "on_hand": 8, "reserved": 0, "available": 8}

    async def mailed() -> bool:
        return len(await program.list_mails(order_id)) == 2

    await wait_until(mailed)


async def test_a_declined_card_releases_the_stock_and_tells_the_customer(program: Program) -> None:
    who, sku = await program.register_customer(), await program.create_product(stock=1)
    order_id = (await program.place_order(who, sku, token="tok_declined")).json()["id"]
    await program.wait_for_status(who, order_id, "payment_failed")

    async def released() -> bool:
        return (await program.get_stock(sku))["available"] == 1

    await wait_until(released)
    await wait_until(lambda: _notified(program, who, order_id, "payment_failed"))


async def _notified(program: Program, who: dict[str, str], order_id: str, kind: str) -> bool:
    items = (await program.client.get("/v1/notifications?limit=100", headers=who)).json()["items"]
    return any(item["about"] == order_id and item["kind"] == kind and item["state"] == "sent" for item in items)


async def test_a_flaky_provider_is_asked_again_until_the_order_is_paid(program: Program) -> None:
    who, sku = await program.register_customer(), await program.create_product(stock=1)
    order_id = (await program.place_order(who, sku, token="tok_flaky")).json()["id"]
    await program.wait_for_status(who, order_id, "delivered", seconds=40)
    payment = (await program.client.get(f"/v1/payments/{order_id}", headers=who)).json()
    assert len(payment["attempts"]) == 3


async def test_a_provider_that_times_out_after_charging_has_charged_once(program: Program) -> None:
    who, sku = await program.register_customer(), await program.create_product(stock=1, price=777)
    order_id = (await program.place_order(who, sku, token="tok_timeout_charged")).json()["id"]
    await program.wait_for_status(who, order_id, "delivered", seconds=40)
    ledger = (
        await program.client.get(f"/v1/payments/{order_id}/provider-ledger", headers=await program.authorize_operator())
    ).json()
    charges = [entry for entry in ledger["items"] if entry["outcome"] == "captured"]
    assert [entry["amount"]["amount"] for entry in charges] == [777]


async def test_two_hundred_orders_for_the_last_unit_leave_exactly_one_paid(program: Program) -> None:
    who, sku = await program.register_customer(), await program.create_product(stock=1)
    negative: list[dict[str, int]] = []
    racing = True

    async def watch() -> None:
        while racing:
            stock = await program.get_stock(sku)
            if min(stock["on_hand"], stock["reserved"], stock["available"]) < 0:
                negative.append(stock)
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    answers = await asyncio.gather(*(program.place_order(who, sku) for _ in range(200)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    accepted = [answer.json()["id"] for answer in answers if answer.status_code == 202]

    async def all_ended() -> list[str] | None:
        states = [(await program.get_order(who, order_id))["status"] for order_id in accepted]
        return states if all(state in ("delivered", "rejected") for state in states) else None

    states = await wait_until(all_ended, seconds=60, every=0.2)
    racing = False
    await watching
    assert states is not None
    assert states.count("delivered") == 1
    assert negative == []
    assert (await program.get_stock(sku))["on_hand"] == 0


async def test_one_key_sent_fifty_times_at_once_is_one_order(program: Program) -> None:
    who, sku, key = await program.register_customer(), await program.create_product(stock=100), str(new_id())

    async def send() -> bytes:
        while (answer := await program.place_order(who, sku, key=key)).status_code == 409:
            await asyncio.sleep(0.1)  # in flight: the answer says to ask again
        assert answer.status_code == 202, answer.text
        return answer.content

    assert len(set(await asyncio.gather(*(send() for _ in range(50))))) == 1
    orders = (await program.client.get("/v1/orders?limit=100", headers=who)).json()["items"]
    assert len(orders) == 1


async def test_a_cancelled_order_gets_money_and_stock_back_or_had_left(program: Program) -> None:
    who, sku = await program.register_customer(), await program.create_product(stock=5)
    order_id = (await program.place_order(who, sku, quantity=5)).json()["id"]
    answer = await program.client.post(f"/v1/orders/{order_id}/cancel", headers=who)
    assert answer.status_code in (202, 409), answer.text

    async def ended() -> dict[str, Any] | None:
        order = await program.get_order(who, order_id)
        return order if order["status"] in ("cancelled", "refunded", "delivered") else None

    order = await wait_until(ended, seconds=30)
    assert order is not None
    if order["status"] != "delivered":

        async def back() -> bool:
            return (await program.get_stock(sku))["available"] == 5

        await wait_until(back)


async def test_bad_tokens_and_bodies_get_problems_and_nothing_is_written(program: Program) -> None:
    who, sku = await program.register_customer(), await program.create_product(stock=1)
    client = program.client
    assert (await client.get("/v1/orders")).status_code == 401
    assert (await client.get("/v1/orders", headers={"authorization": "Bearer forged.token.here"})).status_code == 401
    assert (await client.get(f"/v1/orders/{new_id()}", headers=who)).status_code == 404
    huge = await client.post(
        "/v1/orders",
        content=b"x" * (2 * 1024 * 1024),
        headers={**who, "Idempotency-Key": "k", "content-type": "application/json"},
    )
    assert huge.status_code == 413
    assert (await program.place_order(who, sku, quantity=-1)).status_code == 422
    for answer in (huge,):
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await client.get("/v1/orders", headers=who)).json()["items"] == []
    assert (await client.get("/internal/identity/keys")).status_code in (401, 404)


@pytest.mark.parametrize(
    "path", ["/openapi.json", "/asyncapi.json", "/docs", "/.well-known/jwks.json", "/.well-known/openid-configuration"]
)
async def test_the_public_documents_are_there(program: Program, path: str) -> None:
    assert (await program.client.get(path)).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_what_is_for_the_platform_is_not_for_clients(program: Program, path: str) -> None:
    assert (await program.client.get(path)).status_code == (404 if program.host else 200)
