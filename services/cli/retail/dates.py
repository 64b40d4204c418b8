"""Dates of the Online Retail set that do not tell their order themselves: its invoice numbers rise with time, and so do they."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from services.cli.retail.moments import DateOrder, read_moment

ORDERS: tuple[DateOrder, DateOrder] = ("day-first", "month-first")
_KNOWN = (
    (489_434, datetime(2009, 12, 1, tzinfo=UTC)),
    (536_365, datetime(2010, 12, 1, tzinfo=UTC)),
    (581_587, datetime(2011, 12, 9, tzinfo=UTC)),
)
"""Invoices of the two sets: the first, the first of the second, the last."""
_AGREED = 0.9


def find_set_order(unclear: Iterable[tuple[str, str]]) -> DateOrder | None:
    """The order by which the dates fit the numbers of their invoices; None when these are not the set's, or do not tell."""
    votes: Counter[DateOrder] = Counter()
    for invoice, text in unclear:
        expected = _time_of(invoice)
        moments = [read_moment(text, order) for order in ORDERS]
        if expected is None or None in moments:
            continue
        apart = [abs(moment - expected) for moment in moments if moment]
        if abs(apart[0] - apart[1]) > timedelta(days=7) and min(apart) < timedelta(days=60):
            votes[ORDERS[apart.index(min(apart))]] += 1
    if not votes:
        return None
    order, count = votes.most_common(1)[0]
    return order if count >= _AGREED * votes.total() else None


def _time_of(invoice: str) -> datetime | None:
    digits = re.fullmatch(r"[ACac]?([0-9]{6})", invoice)
    if not digits:
        return None
    number = int(digits[1])
    for (first, begin), (last, end) in pairwise(_KNOWN):
        if first <= number <= last:
            return begin + (end - begin) * ((number - first) / (last - first))
    return None


def is_closer_day_first(unclear: Mapping[tuple[str, str], int]) -> bool:
    """Whether the dates lie much closer together when they begin with the day: then it would be rash to read the month first."""
    spans = []
    for order in ORDERS:
        moments = [moment for _, text in unclear if (moment := read_moment(text, order))]
        spans.append(max(moments) - min(moments) if moments else timedelta())
    return spans[1] > timedelta(days=31) and spans[1] > 2 * spans[0]
