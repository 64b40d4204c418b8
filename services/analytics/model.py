"""The rules of reports: what a period is, what a funnel says, and how rows become CSV."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from caravan.errors import InvalidRequest
from caravan.money import convert_to_decimal

MAX_DAYS = 366
DEFAULT_DAYS = 30
MIN_DAY, MAX_DAY = date(1970, 1, 1), date(9998, 12, 31)
STEPS = ("created", "reserved", "paid", "shipped", "delivered")


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days in UTC, the last one included."""

    first: date
    last: date

    def __str__(self) -> str:
        return f"{self.first}:{self.last}"

    @property
    def since(self) -> datetime:
        return datetime.combine(self.first, time(), UTC)

    @property
    def until(self) -> datetime:
        return datetime.combine(self.last + timedelta(days=1), time(), UTC)


def resolve_period(first: date | None, last: date | None, today: date) -> Period:
    """The requested days: by default the 30 days up to the end, and up to today. Raises InvalidRequest."""
    end = last or max(today, min(first or today, MAX_DAY))
    if not MIN_DAY <= end <= MAX_DAY or (first and not MIN_DAY <= first <= MAX_DAY):
        raise InvalidRequest(
            f"`from` and `to` must lie between {MIN_DAY} and {MAX_DAY}",
            errors=[{"field": "query.to", "rule": "out of range"}],
        )
    begin = first or max(MIN_DAY, end - timedelta(days=DEFAULT_DAYS - 1))
    if begin > end:
        raise InvalidRequest(
            f"`from` ({begin}) is after `to` ({end}); swap them",
            errors=[{"field": "query.from", "rule": "must not be after `to`"}],
        )
    if (end - begin).days >= MAX_DAYS:
        rule = f"at most {MAX_DAYS} days"
        raise InvalidRequest(
            f"{begin} to {end} is {(end - begin).days + 1} days; ask for {rule} at once",
            errors=[{"field": "query.from", "rule": rule}],
        )
    return Period(begin, end)


@dataclass(frozen=True, slots=True)
class StepCount:
    """A step of the funnel; the shares are between 0 and 1, None when nothing came before."""

    step: str
    orders: int
    of_previous: float | None
    of_created: float | None


def compute_share(count: int, total: int) -> float | None:
    return round(count / total, 4) if total else None


def compute_conversion(counts: Mapping[str, int]) -> list[StepCount]:
    """The steps in order, each with its share of the step before and of all."""
    created = counts[STEPS[0]]
    return [
        StepCount(step, counts[step], compute_share(counts[step], counts[before]), compute_share(counts[step], created))
        for before, step in zip((STEPS[0], *STEPS), STEPS, strict=False)
    ]


MAX_HISTORIES = 5


def build_history(sales: Mapping[date, Sequence[Mapping[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Revenue day by day in each of the currencies with the most paid orders; a day without any in it has 0."""
    paid = Counter[str]()
    for rows in sales.values():
        for row in rows:
            paid[row["currency"]] += row["paid"]
    revenue = {(day, row["currency"]): row["revenue"] for day, rows in sales.items() for row in rows}
    return {
        currency: [{"day": day.isoformat(), "revenue": revenue.get((day, currency), 0)} for day in sorted(sales)]
        for currency, _ in paid.most_common(MAX_HISTORIES)
    }


MONEY_COLUMNS = frozenset({"captured", "refunded", "revenue", "average_order"})


def order_columns(names: Iterable[str]) -> list[str]:
    """What a row is about comes first, the rest as it is."""
    return sorted(names, key=lambda name: name not in ("key", "name"))


def format_csv(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    """RFC 4180, for spreadsheets: sums in their currency's own unit, and an apostrophe before a text that would be
    taken for a formula.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([_format_cell(row, column) for column in columns] for row in rows)
    return out.getvalue()


def _format_cell(row: Mapping[str, object], column: str) -> object:
    value = row[column]
    if isinstance(value, int) and column in MONEY_COLUMNS:
        return convert_to_decimal(value, str(row["currency"]))
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return "" if value is None else value
