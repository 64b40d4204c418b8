"""What Postgres' own catalog says of the tables, functions and sequences of a schema, and the statements between two of
them.

`make migration` and the test that compares the declared tables with the migrated ones both read it: Postgres writes
each definition itself, so that what Alembic doesn't compare is there too (checks, predicates of indexes, storage of
tables and columns, triggers, functions). Neither reads comments, rights, row security, statistics targets or the
compression of columns: no table has any of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import asyncpg
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import create_async_engine

DECLARED_SCHEMA = "declared"
"""The scratch schema in which the declared tables are made, beside the migrated ones in `public`."""
_IGNORED = ("alembic_version",)

_TABLES = """
SELECT c.relname AS name, c.relpersistence = 'u' AS is_unlogged, coalesce(c.reloptions, '{}') AS options
FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = $1::regnamespace ORDER BY 1
"""
_COLUMNS = """
SELECT c.relname AS table, a.attname AS name, format_type(a.atttypid, a.atttypmod)
    || CASE WHEN a.attcollation <> t.typcollation THEN ' COLLATE ' || quote_ident(k.collname) ELSE '' END AS type,
    a.attnotnull AS is_not_null, pg_get_expr(d.adbin, d.adrelid) AS expression, a.attgenerated <> '' AS is_generated,
    CASE a.attidentity WHEN 'a' THEN 'ALWAYS' WHEN 'd' THEN 'BY DEFAULT' END AS identity,
    '{"p": "PLAIN", "e": "EXTERNAL", "m": "MAIN", "x": "EXTENDED"}'::jsonb ->> a.attstorage::text AS storage,
    '{"p": "PLAIN", "e": "EXTERNAL", "m": "MAIN", "x": "EXTENDED"}'::jsonb ->> t.typstorage::text AS type_storage
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_collation k ON k.oid = a.attcollation
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = $1::regnamespace ORDER BY 1, a.attnum
"""
_CONSTRAINTS = """
SELECT c.relname AS table, k.conname AS name, pg_get_constraintdef(k.oid, true) AS definition
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE c.relnamespace = $1::regnamespace AND k.contype NOT IN ('n', 't')
ORDER BY 1, array_position('{p,u,c,x,f}'::"char"[], k.contype), 2
"""
_INDEXES = """
SELECT c.relname AS table, i.relname AS name, pg_get_indexdef(x.indexrelid, 0, true) AS definition
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid
WHERE c.relnamespace = $1::regnamespace AND NOT EXISTS (
    SELECT FROM pg_constraint k WHERE k.conindid = x.indexrelid AND k.contype IN ('p', 'u', 'x')
)
ORDER BY 1, 2
"""
_TRIGGERS = """
SELECT c.relname AS table, t.tgname AS name, pg_get_triggerdef(t.oid, true) AS definition
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal AND c.relnamespace = $1::regnamespace ORDER BY 1, 2
"""
_FUNCTIONS = """
SELECT format('%s(%s)', p.proname, pg_get_function_identity_arguments(p.oid)) AS name,
    replace(pg_get_functiondef(p.oid), format('FUNCTION %I.', n.nspname), 'FUNCTION ') AS definition
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.pronamespace = $1::regnamespace AND p.prokind = 'f' ORDER BY 1
"""
_SEQUENCES = """
SELECT c.relname AS name, format('CREATE SEQUENCE %I AS %s INCREMENT %s MINVALUE %s MAXVALUE %s START %s CACHE %s%s',
    c.relname, format_type(s.seqtypid, NULL), s.seqincrement, s.seqmin, s.seqmax, s.seqstart, s.seqcache,
    CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END) AS definition
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid
WHERE c.relnamespace = $1::regnamespace
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'i') ORDER BY 1
"""


@dataclass(frozen=True)
class CatalogColumn:
    type: str
    is_not_null: bool
    expression: str | None
    is_generated: bool
    identity: str | None
    storage: str
    type_storage: str
    """What a column of this type has when nobody says otherwise."""

    @property
    def default(self) -> str | None:
        return None if self.is_generated else self.expression

    def render(self) -> str:
        """The column as CREATE TABLE and ADD COLUMN take it; its storage is set after it."""
        clauses = [self.type]
        if self.identity:
            clauses.append(f"GENERATED {self.identity} AS IDENTITY")
        elif self.is_generated:
            clauses.append(f"GENERATED ALWAYS AS ({self.expression}) STORED")
        elif self.expression is not None:
            clauses.append(f"DEFAULT {self.expression}")
        if self.is_not_null and not self.identity:
            clauses.append("NOT NULL")
        return " ".join(clauses)


@dataclass
class CatalogTable:
    """What belongs to one table, each by its name; the values of the last three are definitions."""

    is_unlogged: bool
    options: frozenset[str]
    columns: dict[str, CatalogColumn] = field(default_factory=dict)
    constraints: dict[str, str] = field(default_factory=dict)
    indexes: dict[str, str] = field(default_factory=dict)
    triggers: dict[str, str] = field(default_factory=dict)


@dataclass
class Catalog:
    tables: dict[str, CatalogTable] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    sequences: dict[str, str] = field(default_factory=dict)


async def create_declared(url: str, declared: Sequence[MetaData]) -> None:
    """Make the declared tables of a database anew, in the scratch schema."""
    connection = await asyncpg.connect(url)
    await connection.execute(f"DROP SCHEMA IF EXISTS {DECLARED_SCHEMA} CASCADE; CREATE SCHEMA {DECLARED_SCHEMA}")
    await connection.close()
    engine = create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://", 1),
        connect_args={"server_settings": {"search_path": DECLARED_SCHEMA}},
    )
    try:
        async with engine.begin() as sql_connection:
            for metadata in declared:
                await sql_connection.run_sync(metadata.create_all)
    finally:
        await engine.dispose()


async def read_catalog(url: str, schema: str) -> Catalog:
    connection = await asyncpg.connect(url, server_settings={"search_path": schema})
    try:
        catalog = Catalog()
        for row in await connection.fetch(_TABLES, schema):
            if row["name"] not in _IGNORED:
                catalog.tables[row["name"]] = CatalogTable(row["is_unlogged"], frozenset(row["options"]))
        for row in await connection.fetch(_COLUMNS, schema):
            if table := catalog.tables.get(row["table"]):
                column = {name: value for name, value in row.items() if name not in ("table", "name")}
                table.columns[row["name"]] = CatalogColumn(**column)
        for attribute, query in (("constraints", _CONSTRAINTS), ("indexes", _INDEXES), ("triggers", _TRIGGERS)):
            for row in await connection.fetch(query, schema):
                if table := catalog.tables.get(row["table"]):
                    getattr(table, attribute)[row["name"]] = row["definition"]
        catalog.functions = {row["name"]: row["definition"] for row in await connection.fetch(_FUNCTIONS, schema)}
        catalog.sequences = {row["name"]: row["definition"] for row in await connection.fetch(_SEQUENCES, schema)}
        return catalog
    finally:
        await connection.close()


def build_changes(before: Catalog, after: Catalog) -> list[str]:
    """The statements that turn one schema into the other, in an order in which they run; none for equal ones."""
    drops: list[str] = []
    changes: list[str] = []
    triggers: list[str] = []
    for name in sorted(before.tables.keys() - after.tables.keys()):
        drops.append(f"DROP TABLE {name} CASCADE")
    new_tables = sorted(after.tables.keys() - before.tables.keys())
    for name in new_tables:
        changes.append(_render_table(name, after.tables[name]))
    # A table may refer to one that comes after it.
    for name in new_tables:
        table = after.tables[name]
        for key, column in table.columns.items():
            changes += [f"ALTER TABLE {name} {change}" for change in _set_storage(key, column.type_storage, column)]
        changes += [_add_constraint(name, key, text) for key, text in table.constraints.items()]
        changes += list(table.indexes.values())
        triggers += list(table.triggers.values())
    for name in sorted(after.tables.keys() & before.tables.keys()):
        old, new = before.tables[name], after.tables[name]
        for key, _ in _list_differences(new.triggers, old.triggers):
            drops.append(f"DROP TRIGGER {key} ON {name}")
        triggers += [text for _, text in _list_differences(old.triggers, new.triggers)]
        dropped, changed = _change_table(name, old, new)
        drops += dropped
        changes += changed
    sequences = [text for _, text in _list_differences(before.sequences, after.sequences)]
    drops += [f"DROP SEQUENCE {key}" for key, _ in _list_differences(after.sequences, before.sequences)]
    functions = [text.strip() for _, text in _list_differences(before.functions, after.functions)]
    gone = [f"DROP FUNCTION {key}" for key in sorted(before.functions.keys() - after.functions.keys())]
    return [*drops, *sequences, *functions, *changes, *triggers, *gone]


def _change_table(name: str, old: CatalogTable, new: CatalogTable) -> tuple[list[str], list[str]]:
    drops = [
        f"ALTER TABLE {name} DROP CONSTRAINT {key}" for key, _ in _list_differences(new.constraints, old.constraints)
    ]
    drops += [f"DROP INDEX {key}" for key, _ in _list_differences(new.indexes, old.indexes)]
    changes = [f"ALTER TABLE {name} {change}" for change in _change_columns(old, new)]
    if old.is_unlogged != new.is_unlogged:
        changes.append(f"ALTER TABLE {name} SET {'UNLOGGED' if new.is_unlogged else 'LOGGED'}")
    names = {option.partition("=")[0] for option in new.options}
    if gone := sorted({option.partition("=")[0] for option in old.options} - names):
        changes.append(f"ALTER TABLE {name} RESET ({', '.join(gone)})")
    if options := sorted(new.options - old.options):
        changes.append(f"ALTER TABLE {name} SET ({', '.join(options)})")
    changes += [_add_constraint(name, key, text) for key, text in _list_differences(old.constraints, new.constraints)]
    changes += [text for _, text in _list_differences(old.indexes, new.indexes)]
    return drops, changes


def _change_columns(old: CatalogTable, new: CatalogTable) -> Iterator[str]:
    for name in sorted(old.columns.keys() - new.columns.keys()):
        yield f"DROP COLUMN {name}"
    for name, column in new.columns.items():
        current = old.columns.get(name)
        if current is None:
            yield f"ADD COLUMN {name} {column.render()}"
            yield from _set_storage(name, column.type_storage, column)
        elif column != current and (column.is_generated or current.is_generated):
            yield f"DROP COLUMN {name}"
            yield f"ADD COLUMN {name} {column.render()}"
            yield from _set_storage(name, column.type_storage, column)
        elif column != current:
            yield from _alter_column(name, current, column)


def _alter_column(name: str, old: CatalogColumn, new: CatalogColumn) -> Iterator[str]:
    if old.type != new.type:
        yield f"ALTER COLUMN {name} TYPE {new.type} USING {name}::{new.type.partition(' COLLATE ')[0]}"
    if old.identity != new.identity:
        if old.identity:
            yield f"ALTER COLUMN {name} DROP IDENTITY"
        if new.identity:
            yield f"ALTER COLUMN {name} ADD GENERATED {new.identity} AS IDENTITY"
    if old.default != new.default:
        yield f"ALTER COLUMN {name} " + (f"SET DEFAULT {new.default}" if new.default is not None else "DROP DEFAULT")
    if old.is_not_null != new.is_not_null:
        yield f"ALTER COLUMN {name} {'SET' if new.is_not_null else 'DROP'} NOT NULL"
    # Another type brings its own storage.
    yield from _set_storage(name, old.storage if old.type == new.type else new.type_storage, new)


def _set_storage(name: str, current: str, column: CatalogColumn) -> Iterator[str]:
    if column.storage != current:
        yield f"ALTER COLUMN {name} SET STORAGE {column.storage}"


def _render_table(name: str, table: CatalogTable) -> str:
    columns = ",\n    ".join(f"{key} {column.render()}" for key, column in table.columns.items())
    options = f" WITH ({', '.join(sorted(table.options))})" if table.options else ""
    return f"CREATE {'UNLOGGED ' if table.is_unlogged else ''}TABLE {name} (\n    {columns}\n){options}"


def _add_constraint(table: str, name: str, definition: str) -> str:
    return f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}"


def _list_differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[tuple[str, str]]:
    """What `new` has that `old` has not, or has otherwise; how a definition is broken into lines says nothing."""
    return [(key, text) for key, text in new.items() if " ".join(old.get(key, "").split()) != " ".join(text.split())]
