"""The picture of a daily report: revenue by day as bars, as a PNG, because mail readers show no SVG.

Typst draws it, as it sets the invoices; what goes in are numbers and days of ours, no foreign text.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import typst

from caravan.money import Money

TEMPLATE = Path(__file__).parent / "sales_chart.typ"
PIXELS_PER_INCH = 144
"""Twice what the mail shows, for fine screens."""


def draw_sales_chart(days: Sequence[Mapping[str, Any]], currency: str) -> bytes:
    """A bar for each day, `{"day": "2026-03-09", "revenue": 2500}`; a day that gave back more than it took has none."""
    highest = max((day["revenue"] for day in days), default=0)
    dates = [date.fromisoformat(day["day"]) for day in days]
    bars = [
        {
            "day": str(each.day),
            "month": f"{each:%b}" if index == 0 or each.day == 1 else "",
            "share": max(day["revenue"], 0) / highest if highest > 0 else 0,
            "last": index == len(days) - 1,
        }
        for index, (each, day) in enumerate(zip(dates, days, strict=True))
    ]
    data = {"highest": str(Money(amount=max(highest, 0), currency=currency)), "bars": bars}
    return typst.compile(
        TEMPLATE.read_bytes(),
        format="png",
        ppi=PIXELS_PER_INCH,
        font_paths=_load_fonts(),
        sys_inputs={"data": orjson.dumps(data).decode()},
    )


@cache
def _load_fonts() -> typst.Fonts:
    found = find_spec("ttf_opensans")
    assert found is not None and found.origin is not None, "a dependency of the package"
    folder = str(Path(found.origin).parent)
    return typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[folder])
