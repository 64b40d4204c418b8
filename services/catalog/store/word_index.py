"""The numbers of the products that a search may find, in its order, from the table of words (`ProductWord`).

A search reads the same few rows of a word whether one product has it or all of them, and meets the words as bit
strings: what it takes depends on the number of its words, not on how many products they are in.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from caravan.database import Database
from services.catalog.store.search_terms import INDEXED_BEGINNING, Alternatives, list_ranges
from services.catalog.tables import BUCKET_SIZE

MAX_NUMBER = 2**42
EXACT_TIER, LAST_TIER = 0, 4
"""0: the sku is the text; 1: all words are in the name; 2: in the name or the category; 3: one of them is there; 4: all
are elsewhere.
"""
_NONE = f"B'0'::bit({BUCKET_SIZE})"
_FIRST = f"B'1'::bit({BUCKET_SIZE})"


def _write_bit(number: str) -> str:
    return f"({_FIRST} >> ({BUCKET_SIZE - 1} - {number} % {BUCKET_SIZE})::int)"


_FIND = f"""
WITH lexemes AS MATERIALIZED (
    SELECT (row_number() OVER ())::int AS number, lexeme FROM unnest(to_tsvector('english', $8::text))
), sought AS (
    SELECT * FROM unnest($1::int[], $2::int[], $3::bool[], $4::bool[], $5::text[], $6::text[])
        AS given (alternative, clause, excluded, is_text, low, high)
    UNION ALL
    SELECT 1, -number, false, true, $9::text || low, $9 || high FROM lexemes, LATERAL (
        SELECT lexeme, lexeme || chr(1114111) WHERE length(lexeme) > {INDEXED_BEGINNING}
        UNION ALL SELECT '^' || lexeme, '^' || lexeme || chr(1) WHERE length(lexeme) <= {INDEXED_BEGINNING}
        UNION ALL SELECT '#' || lexeme, '#' || lexeme || chr(1) WHERE lexeme ~ '[0-9]'
    ) AS range (low, high)
), found AS (
    SELECT alternative, clause, excluded, is_text, bucket, field,
        CASE WHEN members IS NOT NULL THEN members
            ELSE (SELECT bit_or({_write_bit("position")}) FROM unnest(offsets) AS position) END AS bits
    FROM sought CROSS JOIN LATERAL find_product_words(low, high, CASE WHEN $11 THEN {2**31 - 1} ELSE $13::int END)
    UNION ALL
    SELECT alternative::int, 0, false, false, (number / {BUCKET_SIZE})::int, 0, {_write_bit("number")}
    FROM product, unnest($7::int[]) WITH ORDINALITY AS counts (count, alternative) WHERE sku = ANY($10::text[])
), clauses AS (
    SELECT alternative, bucket, excluded, is_text,
        coalesce(bit_or(bits) FILTER (WHERE field <= 1), {_NONE}) AS name,
        coalesce(bit_or(bits) FILTER (WHERE field <= 2), {_NONE}) AS head,
        bit_or(bits) AS whole
    FROM found GROUP BY alternative, clause, excluded, is_text, bucket
), alternatives AS (
    SELECT bucket,
        bit_and(CASE WHEN excluded THEN ~whole ELSE name END) AS name,
        bit_and(CASE WHEN excluded THEN ~whole ELSE head END) AS head,
        bit_or(head) FILTER (WHERE is_text AND NOT excluded) AS mixed,
        bit_and(CASE WHEN excluded THEN ~whole ELSE whole END) AS whole
    FROM clauses GROUP BY alternative, bucket
    HAVING bool_or(is_text AND NOT excluded)
        AND count(*) FILTER (WHERE NOT excluded) = ($7::int[])[alternative] + (SELECT count(*) FROM lexemes)
), products AS MATERIALIZED (
    SELECT bucket, bit_or(name) AS name, bit_or(head) AS head, bit_or(whole) AS whole, bit_or(mixed & whole) AS mixed
    FROM alternatives GROUP BY bucket
), tiers AS MATERIALIZED (
    SELECT tier, bucket, CASE WHEN tier = $12 AND bucket = $13
        THEN bits & (~{_NONE} >> ({BUCKET_SIZE} - $14::int)) ELSE bits END AS bits
    FROM products, LATERAL (VALUES
        (1, CASE WHEN $11::bool THEN name ELSE whole END),
        (2, CASE WHEN $11 THEN head & ~name END),
        (3, CASE WHEN $11 THEN mixed & ~head END),
        (4, CASE WHEN $11 THEN whole & ~mixed END)
    ) AS each (tier, bits)
    WHERE bits <> {_NONE} AND (tier > $12::int OR tier = $12 AND bucket <= $13)
), counted AS (
    SELECT tier, bucket, bits, sum(bit_count(bits)) OVER (ORDER BY tier, bucket DESC) - bit_count(bits) AS before
    FROM tiers
)
SELECT tier, bucket, bits FROM counted WHERE before < $15::int
UNION ALL
SELECT {EXACT_TIER}, (number / {BUCKET_SIZE})::int, {_write_bit("number")} FROM product WHERE lower(sku) = $16
UNION ALL
SELECT {LAST_TIER + 1}, 0, {_NONE} WHERE EXISTS (
    SELECT FROM product WHERE lower(sku) ~>~ $16::text AND lower(sku) ~<~ ($16 || chr(1114111)))
ORDER BY 1, 2 DESC
"""


class IndexPosition(NamedTuple):
    """Behind which product to go on: its tier, and its number."""

    tier: int = EXACT_TIER
    number: int = MAX_NUMBER


class IndexQuery(NamedTuple):
    """`text` is looked up word by word, or else the `alternatives`. `sku` is the text as the index of skus has it.

    `filters`: groups of entries, of each of which a product must have one. `skus`: the only ones. `ranked`: tier by
    tier; otherwise all are in the first one.
    """

    text: str | None
    alternatives: Alternatives
    sku: str
    filters: Sequence[Sequence[str]]
    skus: list[str] | None
    active: bool
    ranked: bool


class IndexPage(NamedTuple):
    """`exact`: the products whose sku is the text, of all pages. `has_skus`: whether a sku goes on behind the text."""

    positions: list[IndexPosition]
    exact: list[int]
    has_skus: bool


async def find_numbers(database: Database, query: IndexQuery, after: IndexPosition, limit: int) -> IndexPage:
    """The next products in the order of their tiers, the newest of each first; no more than `limit`."""
    bucket, offset = divmod(after.number, BUCKET_SIZE)
    rows = await database.fetch(
        _FIND,
        *_build_ranges(query),
        query.text,
        "" if query.active else "~",
        query.skus,
        query.ranked,
        max(after.tier, EXACT_TIER + 1) if not query.ranked else after.tier,
        bucket,
        offset,
        limit,
        query.sku,
    )
    positions = list(_list_positions(rows))
    exact = [each.number for each in positions if each.tier == EXACT_TIER]
    found = [each for each in positions if each.tier > EXACT_TIER]
    return IndexPage(found[:limit], exact, bool(rows) and rows[-1][0] > LAST_TIER)


def _build_ranges(query: IndexQuery) -> list[list[Any]]:
    """The ranges of the table of words, and how many of its clauses each alternative must meet."""
    sign = "" if query.active else "~"
    rows: list[tuple[int, int, bool, bool, str, str]] = []
    counts: list[int] = []
    for alternative, terms in enumerate([()] if query.text is not None else query.alternatives, 1):
        clauses = [([(entry, f"{entry}\x01") for entry in entries], False, False) for entries in query.filters]
        clauses += [(list_ranges(term), term.excluded, True) for term in terms]
        if query.text is None and all(term.excluded for term in terms):
            clauses.append(([("*", "*\x01")], False, True))
        counts.append(sum(not excluded for _, excluded, _ in clauses) + (query.skus is not None))
        rows += [
            (alternative, number, excluded, is_text, sign + low, sign + high)
            for number, (ranges, excluded, is_text) in enumerate(clauses, 1)
            for low, high in ranges
        ]
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(6)]
    return [*columns, counts]


def _list_positions(rows: Sequence[Any]) -> Iterator[IndexPosition]:
    for tier, bucket, bits in rows:
        left = int.from_bytes(bits.bytes)
        while left:
            offset = left.bit_length() - 1
            left ^= 1 << offset
            yield IndexPosition(tier, bucket * BUCKET_SIZE + offset)
