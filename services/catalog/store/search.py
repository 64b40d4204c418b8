"""Search: by relevance, in the order of the tiers of `word_index.py`, the newest of each first; or in another order.

A product is taken into account for its words, or for a sku that begins with the text. `word_index.py` names
candidates; each is compared with the query itself when it is read, for some queries (phrases, parts of a sku) say more
than the index holds.
"""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, select, tuple_

from caravan.database import Database
from caravan.database.query import Query
from caravan.database.tables import col
from services.catalog import tables
from services.catalog.model import Product, build_prefix_query, fold_accents, sanitize_search
from services.catalog.store.listing import Position, ProductFilter, Statement
from services.catalog.store.search_terms import Alternatives, is_plain, parse_query
from services.catalog.store.word_index import (
    EXACT_TIER,
    LAST_TIER,
    MAX_NUMBER,
    IndexPage,
    IndexPosition,
    IndexQuery,
    find_numbers,
)

MAX_SORTED = 1500
"""So many matches are read and sorted; of more, those come along the index of the order, where they are frequent."""
_QUERY = "(SELECT websearch_to_tsquery('english', {}) || coalesce(to_tsquery('english', {}), ''))"
_READ_QUERY = f"SELECT {_QUERY.format('$1', '$2')}::text"
_BEGINS_BY_SKU = "lower(sku) ~>=~ {}::text AND lower(sku) ~<~ {}::text"
"""Compared byte by byte, which the index of beginnings is in the order of."""
_SKU, _NUMBER, _CREATED_AT = col(tables.Product.sku), col(tables.Product.number), col(tables.Product.created_at)
_FIND_BY_SKU = Query(
    select(_NUMBER)
    .where(func.lower(_SKU).op("~>=~")(bindparam("low")), func.lower(_SKU).op("~<~")(bindparam("high")))
    .limit(bindparam("limit")),
    int,
)
_FIND_NUMBER = Query(
    select(
        func.coalesce(
            select(_NUMBER).where(bindparam("sku") == _SKU).scalar_subquery(),
            select(_NUMBER + 1)
            .where(tuple_(_CREATED_AT, _SKU) < tuple_(bindparam("created_at"), bindparam("sku")))
            .where(col(tables.Product.active))
            .order_by(_CREATED_AT.desc(), _SKU.desc())
            .limit(1)
            .scalar_subquery(),
            0,
        )
    ),
    int,
)


class _Search(NamedTuple):
    """What is looked for, ready for the statements. `words` and `beginnings` are read by Postgres' parsers."""

    database: Database
    filters: ProductFilter
    words: str
    beginnings: str | None
    sku: str
    alternatives: Alternatives
    is_plain: bool

    @property
    def sku_range(self) -> tuple[str, str]:
        return self.sku, f"{self.sku}\U0010ffff"

    def start_statement(self) -> Statement:
        statement = Statement(self.filters)
        statement.add_condition(
            f"(search @@ {_QUERY} OR {_BEGINS_BY_SKU}) IS TRUE", self.words, self.beginnings, *self.sku_range
        )
        return statement

    async def find_numbers(self, after: IndexPosition, limit: int, *, ranked: bool) -> IndexPage:
        filters = self.filters
        groups = [[f"={filters.category}"]] if filters.category is not None else []
        groups += [_list_attribute_entries(documents) for documents in filters.attributes]
        text = self.words if self.is_plain else None
        query = IndexQuery(text, self.alternatives, self.sku, groups, filters.skus, filters.active, ranked)
        return await find_numbers(self.database, query, after, limit)

    async def fetch_by_number(self, numbers: list[int], limit: int | None = None) -> dict[int, Product]:
        """Those that match; of more than `limit` the newest."""
        if not numbers:
            return {}
        statement = self.start_statement()
        statement.add_condition("number = ANY({}::bigint[])", numbers)
        rows = await statement.fetch(self.database, "number", "number DESC", limit or 2 * MAX_SORTED)
        return {number: product for product, number in rows}

    async def find_by_sku(self) -> list[int] | None:
        """The products whose sku begins with the text; None when there are too many to be sorted."""
        low, high = self.sku_range
        numbers = await _FIND_BY_SKU.fetch_values(self.database, low=low, high=high, limit=MAX_SORTED + 1)
        return numbers if len(numbers) <= MAX_SORTED else None


async def search_products(
    database: Database, filters: ProductFilter, sort_key: str, after: Position | None, limit: int
) -> list[tuple[Product, Any]]:
    """Like `list_in_order`, for a filter with a search."""
    search = await _read_search(database, filters)
    match sort_key:
        case "relevance":
            return await _list_by_relevance(search, after, limit)
        case "newest":
            return await _list_newest(search, after, limit)
    return await _list_sorted(search, sort_key, after, limit)


async def _read_search(database: Database, filters: ProductFilter) -> _Search:
    text = filters.search or ""
    folded = fold_accents(text)
    words, beginnings, plain = sanitize_search(folded), build_prefix_query(folded), is_plain(folded)
    query = None if plain else await database.fetchval(_READ_QUERY, words, beginnings)
    return _Search(database, filters, words, beginnings, text.lower(), parse_query(query or ""), plain)


async def _list_by_relevance(search: _Search, after: Position | None, limit: int) -> list[tuple[Product, Any]]:
    position = _decode_rank(after[0]) if after else IndexPosition()
    rows: list[tuple[Product, Any]] = []
    size = limit
    while True:
        page = await search.find_numbers(position, size, ranked=True)
        positions = [each for each in page.positions if each.number not in page.exact]
        if position.tier == EXACT_TIER:
            positions = [IndexPosition(number=each) for each in page.exact if each < position.number] + positions
        found = await search.fetch_by_number([each.number for each in positions])
        rows += [(found[each.number], _encode_rank(each)) for each in positions if each.number in found]
        if len(rows) >= limit or len(page.positions) < size:
            break
        position, size = page.positions[-1], min(size * 4, MAX_SORTED)
    if len(rows) < limit and page.has_skus:
        last_sku = after[1] if after and position.tier > LAST_TIER else ""
        rows += await _list_by_sku(search, last_sku, limit - len(rows))
    return rows[:limit]


async def _list_by_sku(search: _Search, after: str, limit: int) -> list[tuple[Product, Any]]:
    """Those whose sku begins with the text and that the index does not name, in the order of their skus."""
    rows: list[tuple[Product, Any]] = []
    low, high = search.sku_range
    while True:
        statement = Statement(search.filters)
        statement.add_condition(_BEGINS_BY_SKU, max(low, after.lower()), high)
        statement.add_condition("(lower(sku) ~>~ {}::text OR sku ~>~ {}::text)", max(low, after.lower()), after)
        found = await statement.fetch(search.database, "number", "lower(sku) USING ~<~, sku USING ~<~", limit)
        skus = [product.sku for product, _ in found]
        named = search._replace(filters=search.filters._replace(skus=skus))
        page = await named.find_numbers(IndexPosition(), len(skus), ranked=False)
        others = {number for _, number in found} - {each.number for each in page.positions} - {*page.exact}
        rank = _encode_rank(IndexPosition(LAST_TIER + 1, 0))
        rows += [(product, rank) for product, number in found if number in others]
        if len(rows) >= limit or len(found) < limit:
            return rows[:limit]
        after = skus[-1]


async def _list_newest(search: _Search, after: Position | None, limit: int) -> list[tuple[Product, Any]]:
    number = MAX_NUMBER
    if after is not None:
        number = await _FIND_NUMBER.fetch_value(search.database, created_at=after[0], sku=after[1]) or 0
    position, size = IndexPosition(number=number), limit
    by_number: dict[int, Product] = {}
    while True:
        page = await search.find_numbers(position, size, ranked=False)
        by_number |= await search.fetch_by_number([each.number for each in page.positions])
        if len(by_number) >= limit or len(page.positions) < size:
            break
        position, size = page.positions[-1], min(size * 4, MAX_SORTED)
    if page.has_skus or page.exact:
        by_sku = await search.find_by_sku()
        if by_sku is None:
            return await search.start_statement().fetch_sorted(search.database, "newest", after, limit)
        by_number |= await search.fetch_by_number([each for each in by_sku if each < number], limit)
    return [(by_number[each], by_number[each].created_at) for each in sorted(by_number, reverse=True)[:limit]]


async def _list_sorted(search: _Search, sort_key: str, after: Position | None, limit: int) -> list[tuple[Product, Any]]:
    """The matches are sorted where they are few. Where there are many, the index of the order meets them soon."""
    statement = search.start_statement()
    page = await search.find_numbers(IndexPosition(), MAX_SORTED + 1, ranked=False)
    by_sku = await search.find_by_sku() if page.has_skus or page.exact else []
    if by_sku is not None and len(page.positions) <= MAX_SORTED:
        numbers = [*by_sku, *(each.number for each in page.positions)]
        statement.add_condition("number = ANY({}::bigint[])", numbers)
    return await statement.fetch_sorted(search.database, sort_key, after, limit)


def _encode_rank(position: IndexPosition) -> float:
    """Rises from a product of a list to the next."""
    return float(position.tier * MAX_NUMBER - position.number)


def _decode_rank(rank: float) -> IndexPosition:
    tier = max(EXACT_TIER, math.ceil(min(rank / MAX_NUMBER, LAST_TIER + 1.0)))
    return IndexPosition(tier, min(max(int(tier * MAX_NUMBER - rank), 0), MAX_NUMBER))


def _list_attribute_entries(documents: tuple[Mapping[str, Any], ...]) -> list[str]:
    """As `product_words` in tables/product_words.py writes them."""
    entries = {
        f"@{name}={_to_entry_value(value[0] if isinstance(value, list) else value)}"[:100]
        for document in documents
        for name, value in document.items()
    }
    return sorted(entries)


def _to_entry_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{Decimal(repr(value)).normalize():f}" if isinstance(value, float) else str(value)
