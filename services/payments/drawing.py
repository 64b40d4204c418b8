"""The PDF of an invoice; the same order always gives the same bytes until it is refunded. Typst sets it by `invoice.typ`.

Open Sans draws Latin, Greek and Cyrillic; the other fonts what it lacks. Signs that none of them has are written in Latin letters.
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
from services.payments.model import Position, credit_note_number, invoice_number, positions

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
LONGEST = 400
"""Of one text as it is drawn. One sign may be written with ten letters, and drawing is paid for by the letter."""


def render(bill: Mapping[str, Any]) -> bytes:
    currency = bill["currency"]
    lines = [InvoiceLine(**line) for line in orjson.loads(bill["lines"])]
    sums, note = [["Total", "", "", _money(bill["amount"], currency)]], ""
    if bill["refunded_at"] is not None:
        sums.append([f"Credit note {credit_note_number(bill['credit_note'])}", "", "", _money(-bill["refunded"], currency)])
        sums.append(["Balance", "", "", _money(bill["amount"] - bill["refunded"], currency)])
        note = f"Refunded on {bill['refunded_at']:%Y-%m-%d}: {_drawable(bill['refund_reason'])}"
    rows = [_row(position, currency) for position in positions(lines, bill["amount"])]
    address = [_drawable(text) for text in (bill["customer_name"], *re.split(r"[\r\n]+", bill["billing_address"]), bill["email"])]
    said = {
        "title": f"Invoice {invoice_number(bill['number'])}",
        "head": [f"Issued {bill['issued_at']:%Y-%m-%d}", f"Order {bill['order_id']}"],
        "address": address,
        "columns": ["Item", "Quantity", "Unit price", "Amount"],
        "rows": rows,
        "sums": sums,
        "note": note,
        "fonts": list(FONTS),
        "long_words": any(map(LONG_WORD.search, (*address, note, *(row[0] for row in rows)))),
    }
    pdf = typst.compile(
        TEMPLATE,
        format="pdf",
        font_paths=_fonts(),
        ignore_system_fonts=True,
        sys_inputs={"bill": orjson.dumps(said).decode()},
        timestamp=int(bill["issued_at"].timestamp()),
    )
    assert isinstance(pdf, bytes)
    return pdf


def _row(position: Position, currency: str) -> list[str]:
    name = _drawable(position.name) + (f" ({_drawable(position.sku)})" if position.sku else "")
    return [name, str(position.quantity), _money(position.unit_price, currency), _money(position.amount, currency)]


def _money(amount: int, currency: str) -> str:
    return str(Money(amount=amount, currency=currency))


def _drawable(text: str) -> str:
    return "".join(sign if _is_drawn(sign) else anyascii(sign) for sign in INVISIBLE.sub(" ", text[:LONGEST]))[:LONGEST]


def _is_drawn(sign: str) -> bool:
    return any(ord(sign) in _signs(family) for family in FONTS)


@cache
def _signs(family: str) -> frozenset[int]:
    with TTFont(_file(family), lazy=True) as font:
        return frozenset(font.getBestCmap())


def _file(family: str) -> Path:
    package, name = FONTS[family]
    found = find_spec(package)
    assert found is not None and found.origin is not None
    return next(Path(found.origin).parent.rglob(name))


@cache
def _fonts() -> typst.Fonts:
    return typst.Fonts(
        include_system_fonts=False,
        include_embedded_fonts=False,
        font_paths=[str(folder) for folder in {_file(name).parent for name in FONTS}],
    )


class Drawings:
    """What is being drawn: each document once, whoever asks for it meanwhile, and to its end, also when nobody waits for it any more. A long one takes longer
    than a reader may wait: it is there for the next who asks, instead of being begun anew by each."""

    def __init__(self, *, at_once: int, waiting: int) -> None:
        self._room = asyncio.Semaphore(at_once)
        self._most = at_once + waiting
        self._under_way: dict[Hashable, asyncio.Task[bytes]] = {}

    async def draw(self, name: Hashable, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """The document of this name, by `make` unless that is under way. TooManyRequests when too many wait."""
        task = self._under_way.get(name)
        if task is None:
            if len(self._under_way) >= self._most:
                raise TooManyRequests("many invoices are being drawn; ask again in a moment", retry_after=2)
            task = self._under_way[name] = asyncio.create_task(self._make(make))
            task.add_done_callback(partial(self._done, name))
        return await asyncio.shield(task)

    async def close(self) -> None:
        under_way = list(self._under_way.values())
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _make(self, make: Callable[[], Awaitable[bytes]]) -> bytes:
        async with self._room:
            return await make()

    def _done(self, name: Hashable, task: asyncio.Task[bytes]) -> None:
        del self._under_way[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a document was not drawn", error=repr(error))
