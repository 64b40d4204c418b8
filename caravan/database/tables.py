"""Declares the tables of a database as SQLModel classes: `services/<name>/tables.py` is the one source of a schema.

Each database has a registry of its own, so that no table refers to one of another database. The migrations bring a
database to what is declared (`make migration` writes them), and `tests/architecture/test_catalog.py` compares both in
Postgres' own catalog. A table class is never a request's shape: SQLModel doesn't validate it.
`caravan/database/query.py` compiles statements over these classes.
"""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

from sqlalchemy import Column, Connection, Identity, MetaData, event
from sqlalchemy import text as sql_text
from sqlalchemy.dialects.postgresql import (
    ARRAY,
    BIGINT,
    BOOLEAN,
    BYTEA,
    DATE,
    DOUBLE_PRECISION,
    INTEGER,
    INTERVAL,
    JSON,
    JSONB,
    SMALLINT,
    TEXT,
    TIMESTAMP,
    TSVECTOR,
    UUID,
)
from sqlalchemy.orm import registry
from sqlalchemy.schema import SchemaItem, Table
from sqlalchemy.types import TypeEngine, UserDefinedType
from sqlmodel import Field, SQLModel, col

__all__ = [
    "ARRAY",
    "BIGINT",
    "BOOLEAN",
    "BYTEA",
    "DATE",
    "DOUBLE_PRECISION",
    "INTEGER",
    "INTERVAL",
    "JSON",
    "JSONB",
    "SMALLINT",
    "TEXT",
    "TIMESTAMPTZ",
    "TSVECTOR",
    "UUID",
    "XID8",
    "DeclaredTable",
    "add_ddl",
    "col",
    "define_column",
    "define_registry",
    "get_columns",
    "get_database_name",
    "get_table",
    "is_computed",
    "list_columns",
    "list_fields",
    "select_columns",
]

TIMESTAMPTZ = TIMESTAMP(timezone=True)
_DATABASE = "database"
"""The key in a metadata's `info` that names its database."""


class XID8(UserDefinedType[int]):
    """The number of a transaction."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


class DeclaredTable(SQLModel):
    """What the base class of each database's tables inherits from: it takes `registry=define_registry(<database>)`,
    and a table's class inherits from it with `table=True`.
    """


def define_registry(database: str) -> registry:
    """The registry of the tables of one database, under the name that its DatabaseDeclaration has."""
    return registry(metadata=MetaData(info={_DATABASE: database}))


def define_column(
    sql_type: TypeEngine[Any] | type[TypeEngine[Any]],
    *items: SchemaItem,
    name: str | None = None,
    primary_key: bool = False,
    unique: bool = False,
    default: str | None = None,
) -> Any:
    """A column; it may be null when its annotation has `| None`. `items`: ForeignKey, Identity, Computed. `default` is
    an expression of SQL that Postgres computes: a default of Python would never be stored, as asyncpg inserts the rows.
    `name`: the column's, where the field has another one.
    """
    options: dict[str, Any] = {"server_default": sql_text(default)} if default is not None else {}
    if name is not None:
        options["name"] = name
    if primary_key and not any(isinstance(item, Identity) for item in items):
        # Else SQLAlchemy would make a sequence for a number.
        options["autoincrement"] = False
    make_field: Any = Field  # its overloads know no instances of types
    return make_field(
        sa_type=sql_type, primary_key=primary_key, unique=unique, sa_column_args=items, sa_column_kwargs=options
    )


def get_table(table: type[DeclaredTable]) -> Table:
    """SQLAlchemy's table of a class."""
    declared: Table = vars(table)["__table__"]
    return declared


def get_columns(table: type[DeclaredTable]) -> dict[str, Column[Any]]:
    """The columns of a class by the names of its fields, which a column may not have (`define_column(name=...)`)."""
    return dict(vars(table)["__mapper__"].columns.items())


def select_columns(table: type[DeclaredTable], fields: Iterable[str]) -> list[Column[Any]]:
    """The columns of some fields."""
    columns, names = get_columns(table), list(fields)
    if unknown := [name for name in names if name not in columns]:
        raise TypeError(f"the table {get_table(table).name} has no column {', '.join(unknown)}")
    return [columns[name] for name in names]


def get_database_name(metadata: MetaData) -> str:
    return str(metadata.info[_DATABASE])


def is_computed(column: Column[Any]) -> bool:
    """Whether Postgres has a value for a row that is inserted without one."""
    return column.server_default is not None


def list_fields(row_type: type) -> list[str]:
    """The fields of a dataclass or named tuple."""
    if is_dataclass(row_type):
        return [field.name for field in fields(row_type) if field.init]
    names: tuple[str, ...] | None = getattr(row_type, "_fields", None)
    if names is None:
        raise TypeError(f"{row_type.__name__} is neither a dataclass nor a named tuple")
    return list(names)


def list_columns(table: type[DeclaredTable], row_type: type, /, **expressions: Any) -> list[Any]:
    """The columns that the fields of a dataclass or named tuple name, in their order: a field more is selected by
    itself. `expressions`: what is selected for a field for which the table has no column of that name.
    """
    names = list_fields(row_type)
    if unknown := [name for name in expressions if name not in names]:
        raise TypeError(f"{row_type.__name__} has no field {', '.join(unknown)}")
    stored = [name for name in names if name not in expressions]
    columns = dict(zip(stored, select_columns(table, stored), strict=True)) | expressions
    return [columns[name] for name in names]


def add_ddl(base: type[DeclaredTable], statement: str, *, before_tables: bool = False) -> None:
    """A function, a trigger or a column's storage that belongs to the tables of a database: made after them, or before
    them when a column or an index needs it, in the order of the calls.
    """

    def run_ddl(_: MetaData, connection: Connection, **__: Any) -> None:
        connection.exec_driver_sql(statement)

    event.listen(base.metadata, "before_create" if before_tables else "after_create", run_ddl)
