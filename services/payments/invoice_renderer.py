"""Draws an invoice's PDF with Typst by `invoice.typ`. It runs in the worker processes of `invoice_pdf.py`, and imports
nothing of the service, so that a worker is small and starts fast.

Open Sans draws Latin, Greek and Cyrillic; the other fonts what it lacks. Signs that none of them has are written in
Latin letters. The same document always gives the same bytes.
"""

import multiprocessing
import os
import re
import signal
import threading
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import orjson
import typst
from anyascii import anyascii
from fontTools.ttLib import TTFont

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


@dataclass(frozen=True, slots=True)
class DocumentRow:
    name: str
    sku: str
    quantity: str
    unit_price: str
    amount: str


@dataclass(frozen=True, slots=True)
class InvoiceDocument:
    """What an invoice says. Names and addresses are as somebody typed them; amounts and dates are ready to be drawn."""

    title: str
    head: list[str]
    address: list[str]
    rows: list[DocumentRow]
    total_rows: list[list[str]]
    refund_note: str
    """The words before the reason of a refund; empty when there was none."""
    refund_reason: str
    issued_at: int
    """Seconds since 1970: the date in the file's own properties."""


def render_pdf(document: InvoiceDocument) -> bytes:
    address = [_to_drawable(line) for line in document.address]
    note = document.refund_note + _to_drawable(document.refund_reason)
    rows = [_to_cells(row) for row in document.rows]
    template_data = {
        "title": document.title,
        "head": document.head,
        "address": address,
        "columns": ["Item", "Quantity", "Unit price", "Amount"],
        "rows": rows,
        "sums": document.total_rows,
        "note": note,
        "fonts": list(FONTS),
        "long_words": any(map(LONG_WORD.search, (*address, note, *(row[0] for row in rows)))),
    }
    pdf = typst.compile(
        TEMPLATE,
        format="pdf",
        font_paths=_load_fonts(),
        ignore_system_fonts=True,
        sys_inputs={"invoice": orjson.dumps(template_data).decode()},
        timestamp=document.issued_at,
    )
    assert isinstance(pdf, bytes)
    return pdf


def prepare_worker() -> None:
    """A worker ends with its service, also with one that was killed; Ctrl-C is the service's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(0)


def _to_cells(row: DocumentRow) -> list[str]:
    name = _to_drawable(row.name) + (f" ({_to_drawable(row.sku)})" if row.sku else "")
    return [name, row.quantity, row.unit_price, row.amount]


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
