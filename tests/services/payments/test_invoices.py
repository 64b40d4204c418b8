"""Invoices: numbers without holes or repeats, and a PDF whose totals are the order's."""

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader

from caravan.auth import Caller
from caravan.clock import new_id
from caravan.errors import CapacityExceeded, TooManyRequests
from caravan.jobs import admin
from caravan.money import Money
from services.payments.invoice_pdf import InvoiceRenderer, RenderPool, build_document
from services.payments.invoice_renderer import InvoiceDocument, render_pdf
from services.payments.messages import ExpectPayment, InvoiceLine
from services.payments.model import build_invoice_rows
from services.payments.store import invoices
from services.payments.use_cases import RETRY_JOB, invoice
from tests.services.payments.conftest import Till
from tests.support.shop import wait_until


async def text_of(till: Till, order: ExpectPayment) -> str:
    answer = await till.shop.client.get(
        f"/v1/orders/{order.order_id}/invoice", headers=till.shop.issue_headers(user_id=order.user_id)
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/pdf"
    return "\n".join(page.extract_text() for page in PdfReader(BytesIO(answer.content)).pages)


async def paid(till: Till, **changes: Any) -> ExpectPayment:
    order = till.order(**changes)
    await till.capture(order)
    await till.wait_for(order.order_id, "payment-completed")
    return order


async def test_an_invoice_shows_every_line_and_the_total_of_the_order(till: Till) -> None:
    order = await paid(till)
    text = await text_of(till, order)
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
    assert await text_of(till, order) == text


async def test_an_invoice_is_for_the_owner_and_staff_once_the_order_is_paid(till: Till) -> None:
    order, failed = await paid(till), till.order("tok_declined")
    await till.capture(failed)
    await till.wait_for(failed.order_id, "payment-failed")
    path = f"/v1/orders/{order.order_id}/invoice"
    assert (await till.shop.client.get(path, headers=till.staff)).status_code == 200
    assert (await till.shop.client.get(path, headers=till.shop.issue_headers())).status_code == 404
    assert (await till.shop.client.get(path)).status_code == 401
    assert (await till.shop.client.get(f"/v1/orders/{failed.order_id}/invoice", headers=till.staff)).status_code == 404


async def test_long_names_wrap_and_long_orders_go_on_over_pages(till: Till) -> None:
    name = "Чайник " + "x" * 300
    lines = [InvoiceLine(sku=f"S{place}", name=name, quantity=1, unit_price=1) for place in range(120)]
    text = await text_of(till, await paid(till, lines=lines))
    drawn_text = "".join(text.split())
    assert all(f"Чайник{'x' * 300}(S{place})10.01GBP" in drawn_text for place in range(120))
    assert "18.79 GBP" in text  # what the lines leave open
    assert "Total 19.99 GBP" in text
    assert text.count("Item Quantity Unit price Amount") > 5


@pytest.mark.parametrize(
    "name",
    ["東京太郎 ひらがな カタカナ", "王小明 繁體 简体", "김민수 한국어", "Žofie Ελένη Łukasz Đặng", "İpek Дмитро ﬁancé"],
)
async def test_a_name_is_drawn_in_its_own_script(till: Till, name: str) -> None:
    lines = [InvoiceLine(sku="S", name=name, quantity=1, unit_price=1999)]
    text = await text_of(till, await paid(till, customer_name=name, billing_address=f"{name}\nLondon", lines=lines))
    assert text.count(name) == 3
    assert "?" not in text


@pytest.mark.parametrize("name", ["مرحبا", "שלום", "नमस्ते", "สวัสดี"])
async def test_joined_and_right_to_left_scripts_are_drawn_by_a_font_that_has_them(till: Till, name: str) -> None:
    order = await paid(till, customer_name=name)
    text = await text_of(till, order)
    assert len(set(name) & set(text)) >= 3  # their order on the page is not that of the text
    assert "?" not in text
    assert "\x00" not in text


async def test_signs_that_no_font_has_are_written_in_latin_letters(till: Till) -> None:
    lines = [InvoiceLine(sku="S", name="🎁 box ታንክ\x07\u202e", quantity=1, unit_price=1999)]
    assert ":gift: box tank" in (await text_of(till, await paid(till, lines=lines))).lower()


async def test_a_name_is_never_markup(till: Till) -> None:
    name = '#panic("x") *b* \\ $a$ <a> [c] "; `d` #image("/etc/passwd")'
    text = await text_of(till, await paid(till, customer_name=name, billing_address=name))
    assert name in " ".join(text.split())


async def test_a_refunded_order_has_a_credit_note_line(till: Till) -> None:
    order = await paid(till)
    await till.refund(order.order_id)
    await till.wait_for(order.order_id, "payment-refunded")
    text = await text_of(till, order)
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
    orders = [await paid(till) for _ in range(6)]
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
    assert f"Credit note CN-{last['number']:06d}" in await text_of(
        till, next(o for o in refunded if o.order_id == last["order_id"])
    )


async def _roll_back(till: Till) -> None:
    """What takes numbers and is rolled back gives them back."""
    with suppress(ZeroDivisionError):
        async with till.shop.get_database("payments").unit_of_work() as uow:
            await uow.execute("UPDATE invoice_counter SET last = last + 7")
            raise ZeroDivisionError


LINES = st.lists(
    st.builds(
        InvoiceLine, sku=st.just("A"), name=st.text(), quantity=st.integers(1, 1000), unit_price=st.integers(0, 10**9)
    )
)


@given(LINES, st.integers(0, 10**13))
def test_the_positions_of_an_invoice_add_up_to_its_total(lines: list[InvoiceLine], total: int) -> None:
    assert sum(position.amount for position in build_invoice_rows(lines, total)) == total


@pytest.mark.parametrize(
    ("currency", "price", "total"), [("JPY", "1,250 JPY", "3,750 JPY"), ("KWD", "1.250 KWD", "3.750 KWD")]
)
async def test_an_invoice_has_the_decimals_of_its_currency(till: Till, currency: str, price: str, total: str) -> None:
    lines = [InvoiceLine(sku="MUG", name="Mug", quantity=3, unit_price=1250)]
    text = await text_of(till, await paid(till, lines=lines, amount=Money(amount=3750, currency=currency)))
    assert f"Mug (MUG) 3 {price} {total}" in text
    assert f"Total {total}" in text


async def test_an_invoice_is_drawn_once_when_somebody_asks_and_again_after_a_refund(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = list[int]()

    def build_counted(invoice_data: Any) -> InvoiceDocument:
        drawn.append(invoice_data["revision"])
        return build_document(invoice_data)

    monkeypatch.setattr(invoice, "build_document", build_counted)
    order, path = await paid(till), "/v1/orders/{}/invoice"
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
    order, caller = await paid(till), Caller(str(new_id()), "staff", "a session")

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


async def test_many_documents_at_once_wait_in_a_line_with_an_end(till: Till) -> None:
    renderer, go_on, most = InvoiceRenderer(concurrency=1, max_waiting=2), asyncio.Event(), 0
    at_once = 0

    async def make() -> bytes:
        nonlocal most, at_once
        at_once += 1
        most = max(most, at_once)
        await go_on.wait()
        at_once -= 1
        return b"drawn"

    asked = [asyncio.create_task(renderer.render_once(number % 3, make)) for number in range(9)]
    refused = asyncio.create_task(renderer.render_once("one more", make))
    with pytest.raises(TooManyRequests):
        await refused
    go_on.set()
    assert await asyncio.gather(*asked) == [b"drawn"] * 9
    assert most == 1
    assert await renderer.render_once("one more", make) == b"drawn"


async def test_a_worker_that_hangs_is_killed_and_replaced() -> None:
    pool = RenderPool(2, seconds=8.0, render=cast(Any, time.sleep))
    try:
        assert await pool.render(cast(InvoiceDocument, 0)) is None
        assert pool._executor is not None
        workers = list(pool._executor._processes.values())
        with pytest.raises(CapacityExceeded):
            await pool.render(cast(InvoiceDocument, 60))
        for worker in workers:
            await asyncio.to_thread(worker.join, 10)
            assert worker.exitcode is not None
        assert await pool.render(cast(InvoiceDocument, 0)) is None
    finally:
        pool.close()


async def test_a_worker_that_dies_twice_by_a_document_is_not_started_for_it_again() -> None:
    pool = RenderPool(1, render=cast(Any, os._exit))
    try:
        with pytest.raises(CapacityExceeded):
            await pool.render(cast(InvoiceDocument, 3))
    finally:
        pool.close()


def test_a_pool_starts_no_process_before_it_is_asked() -> None:
    assert RenderPool(2)._executor is None


KILLED_SERVICE = """
import asyncio, os, signal
from services.payments.invoice_pdf import RenderPool

async def run() -> None:
    pool = RenderPool(1, render=str)
    await pool.render("drawn")
    print(*pool._executor._processes, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(run())
"""


async def test_a_worker_ends_with_its_service_also_with_a_killed_one() -> None:
    service = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED_SERVICE, stdout=asyncio.subprocess.PIPE)
    assert service.stdout is not None
    worker = Path("/proc") / (await service.stdout.readline()).decode().strip()
    assert await service.wait() == -signal.SIGKILL

    async def has_ended() -> bool:
        return not worker.exists() or "Z" in (worker / "stat").read_text().rpartition(")")[2].split()[0]

    await wait_until(has_ended)


@pytest.mark.parametrize("name", ["\U0001f9e6" * 200, "x" * 200, "\u6c34" * 200, "\ufdfa" * 200])
def test_no_legal_name_makes_an_invoice_long_or_dear(name: str) -> None:
    """One sign may be written with many letters, and a word may be broken at many places."""
    lines = [
        InvoiceLine(sku=f"A{number:039d}", name=name, quantity=1, unit_price=1).model_dump() for number in range(100)
    ]
    bill = {
        "number": 1,
        "issued_at": datetime(2026, 3, 1, tzinfo=UTC),
        "order_id": new_id(),
        "currency": "GBP",
        "amount": 100,
        "refunded_at": None,
        "lines": json.dumps(lines),
        "customer_name": name[:100],
        "billing_address": "\n".join([name] * 3),
        "email": "ada@example.com",
    }
    pdf = render_pdf(build_document(bill))
    assert len(pdf) < 500_000
    assert f"A{99:039d}" in "".join(page.extract_text() for page in PdfReader(BytesIO(pdf)).pages).replace("\n", "")


async def test_a_payment_leaves_no_drawing_behind(till: Till) -> None:
    """Neither a job nor a document: nobody pays with time on a processor for what nobody reads."""
    orders = [await paid(till) for _ in range(3)]
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
    order = await paid(till)
    await till.refund(order.order_id)
    await till.wait_for(order.order_id, "payment-refunded")
    await invoices.save_document(till.shop.get_database("payments"), order.order_id, 1, b"drawn before, stored after")
    assert "Credit note CN-" in await text_of(till, order)
    await invoices.save_document(till.shop.get_database("payments"), order.order_id, 1, b"drawn before, stored after")
    assert "Credit note CN-" in await text_of(till, order)


async def test_the_first_reader_of_an_invoice_has_the_time_of_a_slow_read(till: Till) -> None:
    """A process that draws for the first time reads its fonts first: on a busy machine that is longer than the
    gateway's time for reads.
    """
    document = (await till.shop.client.get("/openapi.json")).json()
    assert document["paths"]["/v1/orders/{order_id}/invoice"]["get"]["x-slow"] is True
