"""The PDF of an invoice; the same order always gives the same bytes until it is refunded. Typst sets it by
`invoice.typ`.

Open Sans draws Latin, Greek and Cyrillic; the other fonts what it lacks. Signs that none of them has are written in
Latin letters.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Hashable, Mapping
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import typst
from anyascii import anyascii
from fontTools.ttLib import TTFont

from caravan.errors import TooManyRequests
from caravan.money import Money
from caravan.telemetry import log
from services.payments.messages import InvoiceLine
from services.payments.model import InvoiceRow, build_invoice_rows, format_credit_note_number, format_invoice_number

FONTS = {
    "Open Sans": ("ttf_opensans", "OpenSans-Regular.ttf"),
    "Noto Sans CJK JP": ("noto_cjk_sans_jp_regular", "*.otf"),
    "Noto Sans Arabic": ("fontpkg_noto_sans_arabic", "*.ttf"),
    "Heebo": ("fontpkg_heebo", "*.ttf"),
    "Noto Sans Devanagari": ("fontpkg_noto_sans_devanagari", "*.ttf"),
    "Noto Sans Thai": ("fontpkg_noto_sans_thai", "*.ttf"),
}
"""By family, in the order in which they are tried: the package of each and its file there."""
TEMPLATE = (Path(__file__).parent / "invoice.typ").read_bytes()
INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\s]+")
LONG_WORD = re.compile(r"\S{24}")
MAX_TEXT = 400
"""Of one text as it is drawn. One sign may be written with ten letters, and drawing is paid for by the letter."""


def render_invoice(invoice_data: Mapping[str, Any]) -> bytes:
    currency = invoice_data["currency"]
    lines = [InvoiceLine(**line) for line in orjson.loads(invoice_data["lines"])]
    total_rows, note = [["Total", "", "", _format_money(invoice_data["amount"], currency)]], ""
    if invoice_data["refunded_at"] is not None:
        total_rows.append(
            [
                f"Credit note {format_credit_note_number(invoice_data['credit_note'])}",
                "",
                "",
                _format_money(-invoice_data["refunded"], currency),
            ]
        )
        total_rows.append(
            ["Balance", "", "", _format_money(invoice_data["amount"] - invoice_data["refunded"], currency)]
        )
        note = f"Refunded on {invoice_data['refunded_at']:%Y-%m-%d}: {_to_drawable(invoice_data['refund_reason'])}"
    rows = [_to_table_row(position, currency) for position in build_invoice_rows(lines, invoice_data["amount"])]
    address = [
        _to_drawable(text)
        for text in (
            invoice_data["customer_name"],
            *re.split(r"[\r\n]+", invoice_data["billing_address"]),
            invoice_data["email"],
        )
    ]
    template_data = {
        "title": f"Invoice {format_invoice_number(invoice_data['number'])}",
        "head": [f"Issued {invoice_data['issued_at']:%Y-%m-%d}", f"Order {invoice_data['order_id']}"],
        "address": address,
        "columns": ["Item", "Quantity", "Unit price", "Amount"],
        "rows": rows,
        "sums": total_rows,
        "note": note,
        "fonts": list(FONTS),
        "long_words": any(map(LONG_WORD.search, (*address, note, *(row[0] for row in rows)))),
    }
    pdf = typst.compile(
        TEMPLATE,
        format="pdf",
        font_paths=_load_fonts(),
        ignore_system_fonts=True,
        sys_inputs={"bill": orjson.dumps(template_data).decode()},
        timestamp=int(invoice_data["issued_at"].timestamp()),
    )
    assert isinstance(pdf, bytes)
    return pdf


def _to_table_row(invoice_row: InvoiceRow, currency: str) -> list[str]:
    name = _to_drawable(invoice_row.name) + (f" ({_to_drawable(invoice_row.sku)})" if invoice_row.sku else "")
    return [
        name,
        str(invoice_row.quantity),
        _format_money(invoice_row.unit_price, currency),
        _format_money(invoice_row.amount, currency),
    ]


def _format_money(amount: int, currency: str) -> str:
    return str(Money(amount=amount, currency=currency))


def _to_drawable(text: str) -> str:
    return "".join(sign if _has_glyph(sign) else anyascii(sign) for sign in INVISIBLE.sub(" ", text[:MAX_TEXT]))[
        :MAX_TEXT
    ]


def _has_glyph(sign: str) -> bool:
    return any(ord(sign) in _load_glyphs(family) for family in FONTS)


@cache
def _load_glyphs(family: str) -> frozenset[int]:
    with TTFont(_find_font_file(family), lazy=True) as font:
        return frozenset(font.getBestCmap())


def _find_font_file(family: str) -> Path:
    package, name = FONTS[family]
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.rglob(name))


@cache
def _load_fonts() -> typst.Fonts:
    return typst.Fonts(
        include_system_fonts=False,
        include_embedded_fonts=False,
        font_paths=[str(folder) for folder in {_find_font_file(name).parent for name in FONTS}],
    )


class InvoiceRenderer:
    """What is being drawn: each document once, whoever asks for it meanwhile, and to its end, also when nobody waits
    for it any more. A long one takes longer
    than a reader may wait: it is there for the next who asks, instead of being begun anew by each."""

    def __init__(self, *, concurrency: int, max_waiting: int) -> None:
        self._slots = asyncio.Semaphore(concurrency)
        self._max_documents = concurrency + max_waiting
        self._tasks: dict[Hashable, asyncio.Task[bytes]] = {}

    async def render_once(self, name: Hashable, render: Callable[[], Awaitable[bytes]]) -> bytes:
        """The document of this name, by `make` unless that is under way. TooManyRequests when too many wait."""
        task = self._tasks.get(name)
        if task is None:
            if len(self._tasks) >= self._max_documents:
                raise TooManyRequests("many invoices are being drawn; ask again in a moment", retry_after=2)
            task = self._tasks[name] = asyncio.create_task(self._render_in_slot(render))
            task.add_done_callback(partial(self._remove_task, name))
        return await asyncio.shield(task)

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _render_in_slot(self, render: Callable[[], Awaitable[bytes]]) -> bytes:
        async with self._slots:
            return await render()

    def _remove_task(self, name: Hashable, task: asyncio.Task[bytes]) -> None:
        del self._tasks[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a document was not drawn", error=repr(error))
