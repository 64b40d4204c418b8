"""Drawing invoices: layout, scripts, and the processes that draw."""

import asyncio
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader

from caravan.clock import new_id
from caravan.errors import CapacityExceeded, TooManyRequests
from caravan.money import Money
from services.payments.invoice_pdf import InvoiceRenderer, RenderPool, build_document
from services.payments.invoice_renderer import InvoiceDocument, render_pdf
from services.payments.messages import InvoiceLine
from services.payments.model import build_invoice_rows
from tests.services.payments.conftest import Till
from tests.services.payments.invoice_texts import create_paid_order, extract_text
from tests.support.shop import wait_until


async def test_long_names_wrap_and_long_orders_go_on_over_pages(till: Till) -> None:
    name = "Чайник " + "x" * 300
    lines = [InvoiceLine(sku=f"S{place}", name=name, quantity=1, unit_price=1) for place in range(120)]
    text = await extract_text(till, await create_paid_order(till, lines=lines))
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
    text = await extract_text(
        till, await create_paid_order(till, customer_name=name, billing_address=f"{name}\nLondon", lines=lines)
    )
    assert text.count(name) == 3
    assert "?" not in text


@pytest.mark.parametrize("name", ["مرحبا", "שלום", "नमस्ते", "สวัสดี"])
async def test_joined_and_right_to_left_scripts_are_drawn_by_a_font_that_has_them(till: Till, name: str) -> None:
    order = await create_paid_order(till, customer_name=name)
    text = await extract_text(till, order)
    assert len(set(name) & set(text)) >= 3  # their order on the page is not that of the text
    assert "?" not in text
    assert "\x00" not in text


async def test_signs_that_no_font_has_are_written_in_latin_letters(till: Till) -> None:
    lines = [InvoiceLine(sku="S", name="🎁 box ታንክ\x07\u202e", quantity=1, unit_price=1999)]
    assert ":gift: box tank" in (await extract_text(till, await create_paid_order(till, lines=lines))).lower()


async def test_a_name_is_never_markup(till: Till) -> None:
    name = '#panic("x") *b* \\ $a$ <a> [c] "; `d` #image("/etc/passwd")'
    text = await extract_text(till, await create_paid_order(till, customer_name=name, billing_address=name))
    assert name in " ".join(text.split())


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
    text = await extract_text(
        till, await create_paid_order(till, lines=lines, amount=Money(amount=3750, currency=currency))
    )
    assert f"Mug (MUG) 3 {price} {total}" in text
    assert f"Total {total}" in text


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
        pool._seconds, start_seconds = 1.0, pool._seconds  # a worker that runs needs none to start
        with pytest.raises(CapacityExceeded):
            await pool.render(cast(InvoiceDocument, 60))
        pool._seconds = start_seconds
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
    invoice_data = {
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
    pdf = render_pdf(build_document(invoice_data))
    assert len(pdf) < 500_000
    assert f"A{99:039d}" in "".join(page.extract_text() for page in PdfReader(BytesIO(pdf)).pages).replace("\n", "")
