"""A plain statement is declared (`caravan.database.query`), and Postgres prepares every statement of every service."""

import re
from collections.abc import AsyncIterator
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from caravan.runtime import Backends
from services.registry import SERVICES, load_services
from tests.support.statements import FoundText, find_declared, find_texts, find_texts_in, list_statement_modules
from tools.declared_tables import create_migrated, list_declared_databases

KERNEL = list_statement_modules("caravan")
STORES = [module for name in SERVICES for module in list_statement_modules(f"services/{name}")]

JUSTIFIED = re.compile(
    r"unnest\(|\bWITH \w+ AS\b|SKIP LOCKED|INSERT INTO [^;]*\bSELECT\b|GROUP BY|DISTINCT ON|tsquery|tsvector"
    r"|FOR UPDATE OF \w+ FOR SHARE|\bpg_\w+|LISTEN|NOTIFY|COPY|CREATE ",
    re.DOTALL,
)
"""What is said best in SQL: arrays, CTEs, queues, full-text search, locks of two kinds, Postgres' own functions (locks,
snapshots), DDL.
"""
_TOUCHES_TABLE = re.compile(r"\b(FROM|INTO|UPDATE)\b")

PUT_TOGETHER = {
    "caravan.bus.embedded.reader:load_waiting_keys",
    "caravan.database.claims:_write_statement",
    "caravan.database.pending_writes:build_statement",
    "caravan.database.query:__init__",
    "caravan.database.sessions:_is_lent",
    "caravan.leadership:_ask",
    "services.analytics.store.facts:record_step",
    "services.analytics.store.records:search_records",
    "services.catalog.store.listing:fetch",
    "services.notifications.store.notifications:list_notifications",
    "services.orders.store.projection:begin_rebuild",
}
"""Texts that depend on what they are called with: none can be compiled at import, and no test can prepare them alone.
The list only shrinks.
"""

PARTS = {"caravan.outbox.relay:_FETCH_ROWS", "services.analytics.store.reports:ROWS_BY"}
"""Constants that other constants and functions make a statement of."""


FOREIGN = frozenset({"services.reconciliation.store.books", "services.reconciliation.store.stock"})
"""They read tables of other services, whose classes they must not share: what is compared has to be read apart."""


def find_undeclared(texts: list[FoundText], hot: frozenset[str]) -> list[str]:
    return [
        f"{text.place}: {' '.join(text.shape.split())[:80]}"
        for text in texts
        if _TOUCHES_TABLE.search(text.shape)
        and not JUSTIFIED.search(text.shape)
        and text.place not in PUT_TOGETHER
        and text.unit not in hot
        and text.module not in FOREIGN
    ]


def read_hot(module: Any) -> frozenset[str]:
    """`HOT`: the functions of a module whose plain statements stay text, as every order runs them."""
    return frozenset(getattr(module, "HOT", ()))


@pytest.mark.parametrize("module_name", [*KERNEL, *STORES])
def test_a_plain_statement_is_declared_or_named_in_hot(module_name: str) -> None:
    texts, module = find_texts(module_name), import_module(module_name)
    undeclared = find_undeclared(texts, read_hot(module))
    assert undeclared == [], "declare it as a Query; SQL text is for what CONTRIBUTING.md names"


@pytest.mark.parametrize("module_name", [*KERNEL, *STORES])
def test_hot_names_functions_that_have_plain_statements(module_name: str) -> None:
    with_plain = {place.partition(": ")[0] for place in find_undeclared(find_texts(module_name), frozenset())}
    hot = read_hot(import_module(module_name))
    assert {f"{module_name}:{unit}" for unit in hot} <= with_plain


@pytest.mark.parametrize(
    "source",
    [
        'async def find(uow):\n    return await uow.fetch("SELECT id FROM account WHERE id = $1", 1)',
        'COLUMNS = "id"\nasync def find(uow):\n    return await uow.fetch(f"SELECT {COLUMNS} FROM account")',
        'QUERY = (\n    "DELETE FROM account"\n    " WHERE id = $1"\n)',
        'class Store:\n    def change(self):\n        self.run("UPDATE account SET " + "name = $1")',
        'async def add(uow):\n    await uow.execute("INSERT INTO account (id) VALUES ($1) ON CONFLICT DO NOTHING")',
    ],
)
def test_planted_sql_is_found(source: str) -> None:
    module: Any = SimpleNamespace()
    texts = list(find_texts_in("planted", source, module))
    assert len(find_undeclared(texts, frozenset())) == 1
    assert find_undeclared(texts, frozenset({texts[0].unit})) == []


def test_what_is_put_together_is_listed() -> None:
    found = {text.place for name in (*KERNEL, *STORES) for text in find_texts(name) if text.text is None}
    assert found == PUT_TOGETHER, "make what it is put together from constants of the module"


@pytest.fixture(scope="module")
async def connections(backends: Backends) -> AsyncIterator[dict[str, list[asyncpg.Connection]]]:
    """One connection for each migrated database, by the folder whose modules use it."""
    connections: dict[str, list[asyncpg.Connection]] = {}
    for database in list_declared_databases(load_services()):
        connection = await asyncpg.connect(await create_migrated(backends.database_url, database))
        connections.setdefault(database.owner, []).append(connection)
    # The kernel's modules work in the bus' database and in those of services, of which one has a store of events.
    connections["caravan"] = [*connections["kernel"], *connections["bus"], *connections["orders"]]
    others = [*connections["orders"], *connections["payments"], *connections["inventory"]]
    others += [*connections["shipping"], *connections["processing"]]
    connections["reconciliation"] = [*connections["reconciliation"], *others]
    yield connections
    for connection in {id(found): found for group in connections.values() for found in group}.values():
        await connection.close()


@pytest.mark.parametrize("module_name", [*KERNEL, *STORES])
async def test_postgres_prepares_every_statement(
    connections: dict[str, list[asyncpg.Connection]], module_name: str
) -> None:
    texts = {found.place: found.text for found in find_texts(module_name) if found.text and found.place not in PARTS}
    texts |= {f"{module_name}:{name}": text for name, text in find_declared(module_name).items()}
    folder, owner = (*module_name.split("."), "")[:2]
    refused = [
        refusal
        for place, text in texts.items()
        if (refusal := await find_refusal(connections.get(owner if folder == "services" else folder, []), place, text))
    ]
    assert refused == []


async def find_refusal(connections: list[asyncpg.Connection], place: str, text: str) -> str | None:
    """What the databases say against a statement when none of them prepares it."""
    reasons: set[str] = set()
    for connection in connections:
        try:
            await connection.prepare(text)
        except asyncpg.PostgresError as error:
            reasons.add(str(error))
        else:
            return None
    return f"{place}: {' / '.join(sorted(reasons)) or 'there is no database for it'}: {' '.join(text.split())[:200]}"


async def test_a_wrong_column_is_found(connections: dict[str, list[asyncpg.Connection]]) -> None:
    refusal = await find_refusal(connections["identity"], "planted", "SELECT nickname FROM account")
    assert refusal is not None
    assert 'column "nickname" does not exist' in refusal
    assert await find_refusal(connections["identity"], "planted", "SELECT name FROM account") is None
