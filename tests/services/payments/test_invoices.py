"""Invoices: numbers without holes or repeats, and a PDF whose totals are the order's."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from caravan.auth import Caller
from caravan.clock import new_id
from caravan.jobs import admin
from services.payments.invoice_pdf import build_document
from services.payments.invoice_renderer import InvoiceDocument
from services.payments.store import invoices
from services.payments.use_cases import RETRY_JOB, invoice
from tests.services.payments.conftest import Till
from tests.services.payments.invoice_texts import create_paid_order, extract_text
from tests.support.shop import wait_until


async def test_an_invoice_shows_every_line_and_the_total_of_the_order(till: Till) -> None:
    order = await create_paid_order(till)
    text = await extract_text(till, order)
    for part in (
        "Ada Lovelace",
        "London SW1Y 4JH",
        "Mug (MUG) 3 4.50 GBP 13.50 GBP",
        "6.49 GBP",
        "Total 19.99 GBP",
        str(order.order_id),
    ):
        assert part in text
    assert (await till.payment(order.order_id))["invoice_number"] in text
    assert await extract_text(till, order) == text


async def test_an_invoice_is_for_the_owner_and_staff_once_the_order_is_paid(till: Till) -> None:
    order, failed = await create_paid_order(till), till.order("tok_declined")
    await till.capture(failed)
    await till.wait_for(failed.order_id, "payment-failed")
    path = f"/v1/orders/{order.order_id}/invoice"
    assert (await till.shop.client.get(path, headers=till.staff)).status_code == 200
    assert (await till.shop.client.get(path, headers=till.shop.issue_headers())).status_code == 404
    assert (await till.shop.client.get(path)).status_code == 401
    assert (await till.shop.client.get(f"/v1/orders/{failed.order_id}/invoice", headers=till.staff)).status_code == 404


async def test_a_refunded_order_has_a_credit_note_line(till: Till) -> None:
    order = await create_paid_order(till)
    await till.refund(order.order_id)
    await till.wait_for(order.order_id, "payment-refunded")
    text = await extract_text(till, order)
    assert "Credit note CN-" in text
    assert "-19.99 GBP" in text
    assert "changed my mind" in text
    assert "0.00 GBP" in text


async def test_numbers_have_no_holes_and_no_repeats_under_concurrency(till: Till) -> None:
    tokens = ["tok_ok", "tok_ok", "tok_ok", "tok_flaky", "tok_declined", "tok_timeout_charged"] * 20
    orders = [till.order(token) for token in tokens]
    await asyncio.gather(*(till.capture(order) for order in orders))
    await _roll_back(till)
    for order in orders:
        await till.wait_for(order.order_id, "payment-failed" if order.token == "tok_declined" else "payment-completed")
    rows = await till.shop.get_database("payments").fetch("SELECT number FROM invoice ORDER BY number")
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) >= 101


async def test_credit_notes_are_numbered_by_themselves_without_holes(till: Till) -> None:
    orders = [await create_paid_order(till) for _ in range(6)]
    refunded = orders[::2]
    await asyncio.gather(*(till.refund(order.order_id) for order in refunded))
    for order in refunded:
        await till.wait_for(order.order_id, "payment-refunded")
        await till.refund(order.order_id)  # which gives back nothing, and has no number
    database = till.shop.get_database("payments")
    rows = await database.fetch("SELECT number, order_id FROM credit_note ORDER BY number")
    assert [row["number"] for row in rows] == list(range(1, len(rows) + 1))
    assert {order.order_id for order in refunded} <= {row["order_id"] for row in rows}
    assert not {order.order_id for order in orders[1::2]} & {row["order_id"] for row in rows}
    last = rows[-1]
    assert f"Credit note CN-{last['number']:06d}" in await extract_text(
        till, next(o for o in refunded if o.order_id == last["order_id"])
    )


async def _roll_back(till: Till) -> None:
    """What takes numbers and is rolled back gives them back."""
    with suppress(ZeroDivisionError):
        async with till.shop.get_database("payments").unit_of_work() as uow:
            await uow.execute("UPDATE invoice_counter SET last = last + 7")
            raise ZeroDivisionError


async def test_an_invoice_is_drawn_once_when_somebody_asks_and_again_after_a_refund(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = list[int]()

    def build_counted(invoice_data: Any) -> InvoiceDocument:
        drawn.append(invoice_data["revision"])
        return build_document(invoice_data)

    monkeypatch.setattr(invoice, "build_document", build_counted)
    order, path = await create_paid_order(till), "/v1/orders/{}/invoice"
    documents = "SELECT revision, pdf FROM invoice_document WHERE order_id = $1"
    assert await till.shop.get_database("payments").fetch(documents, order.order_id) == []
    first, second = [await till.shop.client.get(path.format(order.order_id), headers=till.staff) for _ in range(2)]
    assert first.content[:5] == b"%PDF-"
    assert first.content == second.content
    assert drawn == [1]

    await till.refund(order.order_id)
    await till.wait_for(order.order_id, "payment-refunded")
    third, fourth = [await till.shop.client.get(path.format(order.order_id), headers=till.staff) for _ in range(2)]
    assert third.content != first.content
    assert third.content == fourth.content
    assert drawn == [1, 2]
    kept = await till.shop.get_database("payments").fetch(documents, order.order_id)
    assert [tuple(row) for row in kept] == [(2, third.content)]


async def test_a_document_that_takes_longer_than_its_reader_waits_is_drawn_once_and_there_for_the_next(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = till.shop.get_context("payments")
    pool = context.resources.invoice_renderer.pool
    draw, drawn, go_on = pool.render, list[str](), asyncio.Event()

    async def render_slowly(document: InvoiceDocument) -> bytes:
        drawn.append(document.title)
        async with asyncio.timeout(20):
            await go_on.wait()
        pdf: bytes = await draw(document)
        return pdf

    monkeypatch.setattr(pool, "render", render_slowly)
    order, caller = await create_paid_order(till), Caller(str(new_id()), "staff", "a session")

    async def begun() -> bool:
        return bool(drawn)

    for _ in range(3):
        reading = asyncio.create_task(invoice.get_invoice(context, caller, order.order_id))
        await wait_until(begun)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    go_on.set()
    assert (await invoice.get_invoice(context, caller, order.order_id)).pdf[:5] == b"%PDF-"
    assert len(drawn) == 1


async def test_a_payment_leaves_no_drawing_behind(till: Till) -> None:
    """Neither a job nor a document: nobody pays with time on a processor for what nobody reads."""
    orders = [await create_paid_order(till) for _ in range(3)]
    for order in orders:
        await till.refund(order.order_id)
        await till.wait_for(order.order_id, "payment-refunded")
    queues = await admin.list_queues(till.shop.process.jobs)
    assert [queue.name for queue in queues if queue.name.startswith("payments.")] == [RETRY_JOB]
    ids = [order.order_id for order in orders]
    assert (
        await till.shop.get_database("payments").fetch("SELECT FROM invoice_document WHERE order_id = ANY($1)", ids)
        == []
    )


async def test_a_document_of_an_old_revision_is_never_served(till: Till) -> None:
    order = await create_paid_order(till)
    await till.refund(order.order_id)
    await till.wait_for(order.order_id, "payment-refunded")
    await invoices.save_document(till.shop.get_database("payments"), order.order_id, 1, b"drawn before, stored after")
    assert "Credit note CN-" in await extract_text(till, order)
    await invoices.save_document(till.shop.get_database("payments"), order.order_id, 1, b"drawn before, stored after")
    assert "Credit note CN-" in await extract_text(till, order)


async def test_the_first_reader_of_an_invoice_has_the_time_of_a_slow_read(till: Till) -> None:
    """A process that draws for the first time reads its fonts first: on a busy machine that is longer than the
    gateway's time for reads.
    """
    document = (await till.shop.client.get("/openapi.json")).json()
    assert document["paths"]["/v1/orders/{order_id}/invoice"]["get"]["x-slow"] is True
