"""The rules: what a user's history says of their taste, and how a list is put together.

rule                 recommends                                     because of
bought_together      what others bought with what the user bought   a sku of the user's
bought_again         what the user bought in two or more orders,    that sku
                     the last one not just now
popular_in_category  what sells in the user's categories            a category
popular              what sells                                     nothing
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain

MAX_SEEDS = 50
"""The last bought skus that other rules start from."""
MAX_CATEGORIES = 3
REPEAT_SHARE = 3
"""Every third place at most is for what the user bought before, while there is anything new to show."""


@dataclass(frozen=True, slots=True)
class PurchasedSku:
    """A sku in a user's history. `held_at`: last ordered, in an order that was not refused or undone."""

    sku: str
    times: int
    bought_at: datetime | None
    held_at: datetime | None


@dataclass(frozen=True, slots=True)
class Product:
    sku: str
    name: str
    category: str
    active: bool
    buyable: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    sku: str
    name: str
    because: str | None
    support: float | None = None
    confidence: float | None = None
    lift: float | None = None


@dataclass(frozen=True, slots=True)
class Taste:
    """`again`: habits whose last order is not just past. `excluded`: ordered lately, so it isn't shown as something
    new.
    """

    seeds: list[str]
    repeat_skus: list[str]
    excluded_skus: set[str]


def derive_taste(history: Iterable[PurchasedSku], now: datetime, recent: timedelta, repeat_after: timedelta) -> Taste:
    history = list(history)
    purchases = sorted(
        ((item.bought_at, item) for item in history if item.bought_at),
        key=lambda each: (each[0], each[1].sku),
        reverse=True,
    )
    just_ordered = {item.sku for item in history if item.held_at and item.held_at > now - repeat_after}
    repeats = sorted(
        (item for _, item in purchases if item.times >= 2 and item.sku not in just_ordered),
        key=lambda item: -item.times,
    )
    return Taste(
        seeds=[item.sku for _, item in purchases[:MAX_SEEDS]],
        repeat_skus=[item.sku for item in repeats],
        excluded_skus={item.sku for item in history if item.held_at and item.held_at > now - recent},
    )


def find_favourite_categories(seeds: Iterable[str], products: Mapping[str, Product]) -> list[str]:
    """The categories that most seeds are of."""
    counts = Counter(products[sku].category for sku in seeds if sku in products)
    return [category for category, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_CATEGORIES]]


def compose_list(limit: int, rules: Mapping[str, Sequence[Candidate]]) -> list[tuple[str, Candidate]]:
    """At most `limit` candidates, each sku once, each with the first rule that fired for it; `rules` in their order,
    `bought_together` first.
    """
    new = [(rule, item) for rule, items in rules.items() if rule != "bought_again" for item in items]
    repeats = [("bought_again", item) for item in rules.get("bought_again", ())]
    share = min(limit // REPEAT_SHARE, len(repeats))
    before = sum(rule == "bought_together" for rule, _ in new[: limit - share])
    by_sku: dict[str, tuple[str, Candidate]] = {}
    for rule, item in chain(new[:before], repeats[:share], new[before:], repeats[share:]):
        by_sku.setdefault(item.sku, (rule, item))
    return list(by_sku.values())[:limit]
