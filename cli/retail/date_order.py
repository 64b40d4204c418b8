"""Finds the order of day and month in files of the Online Retail data set whose dates fit both: its invoice numbers
rise with time, so the dates must, too.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from cli.retail.timestamps import DateOrder, parse_timestamp

DATE_ORDERS: tuple[DateOrder, DateOrder] = ("day-first", "month-first")
_KNOWN_INVOICES = (
    (489_434, datetime(2009, 12, 1, tzinfo=UTC)),
    (536_365, datetime(2010, 12, 1, tzinfo=UTC)),
    (581_587, datetime(2011, 12, 9, tzinfo=UTC)),
)
"""Invoices of the two sets: the first, the first of the second, the last."""
_AGREEMENT_SHARE = 0.9


def find_set_order(unclear_dates: Iterable[tuple[str, str]]) -> DateOrder | None:
    """The order by which the dates fit the numbers of their invoices; None when these are not the set's, or do not
    tell.
    """
    votes: Counter[DateOrder] = Counter()
    for invoice, text in unclear_dates:
        expected = _estimate_time(invoice)
        moments = [parse_timestamp(text, order) for order in DATE_ORDERS]
        if expected is None or None in moments:
            continue
        distances = [abs(moment - expected) for moment in moments if moment]
        if abs(distances[0] - distances[1]) > timedelta(days=7) and min(distances) < timedelta(days=60):
            votes[DATE_ORDERS[distances.index(min(distances))]] += 1
    if not votes:
        return None
    order, count = votes.most_common(1)[0]
    return order if count >= _AGREEMENT_SHARE * votes.total() else None


def _estimate_time(invoice: str) -> datetime | None:
    digits = re.fullmatch(r"[ACac]?([0-9]{6})", invoice)
    if not digits:
        return None
    number = int(digits[1])
    for (first, first_time), (last, last_time) in pairwise(_KNOWN_INVOICES):
        if first <= number <= last:
            return first_time + (last_time - first_time) * ((number - first) / (last - first))
    return None


def is_closer_day_first(unclear_dates: Mapping[tuple[str, str], int]) -> bool:
    """Whether the dates lie much closer together when they begin with the day: then it would be rash to read the month
    first.
    """
    spans = []
    for order in DATE_ORDERS:
        moments = [moment for _, text in unclear_dates if (moment := parse_timestamp(text, order))]
        spans.append(max(moments) - min(moments) if moments else timedelta())
    return spans[1] > timedelta(days=31) and spans[1] > 2 * spans[0]
