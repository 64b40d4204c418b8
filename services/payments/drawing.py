"""The PDF of an invoice; the same order always gives the same bytes until it is refunded.

The font is Open Sans: Latin, Greek and Cyrillic. Characters that it lacks are drawn as `?`.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson
import ttf_opensans
from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import TTFFont

from caravan.money import Money
from services.payments.messages import InvoiceLine
from services.payments.model import Position, credit_note_number, invoice_number, positions

WIDTHS = (96, 20, 32, 32)
"""Millimetres of the columns: together what an A4 page has between its margins."""


def render(bill: Mapping[str, Any]) -> bytes:
    page = _Page(bill["currency"])
    page.set_creation_date(bill["issued_at"])
    page.set_title(invoice_number(bill["number"]))
    page.add_page()
    _head(page, bill)
    page.row(("Item", "Quantity", "Unit price", "Amount"), "B")
    for position in positions([InvoiceLine(**line) for line in orjson.loads(bill["lines"])], bill["amount"]):
        page.position(position)
    page.row(("Total", "", "", page.money(bill["amount"])), "B")
    if bill["refunded_at"] is not None:
        page.row((f"Credit note {credit_note_number(bill['number'])}", "", "", page.money(-bill["refunded"])))
        page.line_of(f"Refunded on {bill['refunded_at']:%Y-%m-%d}: {bill['refund_reason']}", 8)
        page.row(("Balance", "", "", page.money(bill["amount"] - bill["refunded"])), "B")
    return bytes(page.output())


def _head(page: "_Page", bill: Mapping[str, Any]) -> None:
    page.line_of(f"Invoice {invoice_number(bill['number'])}", 18, "B")
    page.line_of(f"Issued {bill['issued_at']:%Y-%m-%d}", 10)
    page.line_of(f"Order {bill['order_id']}", 10)
    page.ln(4)
    for text in (bill["customer_name"], *re.split(r"[\r\n]+", bill["billing_address"]), bill["email"]):
        page.line_of(text, 10)
    page.ln(6)


class _Page(FPDF):
    def __init__(self, currency: str) -> None:
        super().__init__(format="A4")
        self.currency = currency
        self.set_margin(15)
        self.set_auto_page_break(True, 15)
        self.add_font("sans", "", ttf_opensans.OPENSANS_REGULAR.path)
        self.add_font("sans", "B", ttf_opensans.OPENSANS_BOLD.path)
        font = self.fonts["sans"]
        assert isinstance(font, TTFFont)
        self.drawable = frozenset(font.cmap)

    def money(self, amount: int) -> str:
        return str(Money(amount=amount, currency=self.currency))

    def line_of(self, text: str, size: int, style: str = "") -> None:
        self.set_font("sans", style, size)
        self.cell(sum(WIDTHS), size * 0.5, self._fitting(text, sum(WIDTHS)), new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def position(self, position: Position) -> None:
        name = f"{position.name} ({position.sku})" if position.sku else position.name
        self.row((name, str(position.quantity), self.money(position.unit_price), self.money(position.amount)))

    def row(self, cells: tuple[str, str, str, str], style: str = "") -> None:
        self.set_font("sans", style, 9)
        for place, (text, width) in enumerate(zip(cells, WIDTHS, strict=True)):
            end = place == len(WIDTHS) - 1
            self.cell(
                width,
                6,
                self._fitting(text, width),
                border="B",
                align="R" if place else "L",
                new_x=XPos.LMARGIN if end else XPos.RIGHT,
                new_y=YPos.NEXT if end else YPos.TOP,
            )

    def _fitting(self, text: str, width: float) -> str:
        """The text with what the font can draw, cut at the width."""
        text = "".join(sign if ord(sign) in self.drawable else " " if sign.isspace() else "?" for sign in text[:400])
        room = width - 2 * self.c_margin
        while text and self.get_string_width(text) > room:
            text = text[: -max(2, len(text) // 10)].rstrip(" …") + "…" if len(text) > 2 else ""
        return text
