"""Statements declared over the classes of `tables.py`, compiled once at import and run by asyncpg.

`Query` is a plain statement of SQLAlchemy; `Upsert` writes the rows of a batch by one statement with an array for each
column. Both are run through a Database or a UnitOfWork like any text: the same pool, transaction and count of
statements. Nothing of SQLAlchemy runs when they are used. What neither can say stays text (CONTRIBUTING.md), with
`RowArrays` where it writes the rows of a batch.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar, overload

import asyncpg
from sqlalchemy import Dialect
from sqlalchemy.dialects.postgresql.asyncpg import PGCompiler_asyncpg, PGDialect_asyncpg
from sqlalchemy.sql.elements import ClauseElement

from caravan.database.tables import DeclaredTable, get_columns, get_table, is_computed, list_fields, select_columns

T = TypeVar("T")
R = TypeVar("R")


class StatementExecutor(Protocol):
    """A Database or a UnitOfWork."""

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]: ...
    async def fetchrow(self, query: str, *arguments: Any) -> asyncpg.Record | None: ...
    async def fetchval(self, query: str, *arguments: Any) -> Any: ...
    async def execute(self, query: str, *arguments: Any) -> int: ...


class _ConstantsInText(PGCompiler_asyncpg):
    """Writes the constants of a statement into its text: a parameter in their place would keep a generic plan from the
    partial indexes.
    """

    def visit_bindparam(self, bindparam: Any, *arguments: Any, **options: Any) -> Any:
        if not bindparam.required:
            options["literal_binds"] = True
        elif bindparam.expanding:
            raise TypeError(
                f"in_({bindparam.key}) is another text for each number of values: write is_among(column, parameter)"
            )
        return super().visit_bindparam(bindparam, *arguments, **options)  # type: ignore[no-untyped-call]


class _TextDialect(PGDialect_asyncpg):
    statement_compiler = _ConstantsInText


_DIALECT: Dialect = _TextDialect()  # type: ignore[no-untyped-call]


class Query(Generic[T]):
    """`FIND = Query(select(...).where(col(Account.email) == bindparam("email")), Account)`, and then
    `await FIND.fetch_one(database, email=email)`. `build` makes the result from the columns of a row; of a statement
    with one column it is the type of the value.
    """

    __slots__ = ("_build", "parameters", "text")

    @overload
    def __init__(self: "Query[None]", statement: ClauseElement) -> None: ...
    @overload
    def __init__(self, statement: ClauseElement, build: Callable[..., T]) -> None: ...
    def __init__(self, statement: ClauseElement, build: Callable[..., Any] | None = None) -> None:
        compiled: Any = statement.compile(dialect=_DIALECT)
        self.text = str(compiled)
        self.parameters: tuple[str, ...] = tuple(compiled.positiontup or ())
        self._build: Any = build

    async def fetch_one(self, executor: StatementExecutor, **arguments: Any) -> T | None:
        row = await executor.fetchrow(self.text, *self._order_arguments(arguments))
        return self._build(*row) if row is not None else None

    async def fetch_all(self, executor: StatementExecutor, **arguments: Any) -> list[T]:
        build = self._build
        return [build(*row) for row in await executor.fetch(self.text, *self._order_arguments(arguments))]

    async def fetch_value(self, executor: StatementExecutor, **arguments: Any) -> T | None:
        """The first column of the first row, as asyncpg gives it."""
        value: T | None = await executor.fetchval(self.text, *self._order_arguments(arguments))
        return value

    async def fetch_values(self, executor: StatementExecutor, **arguments: Any) -> list[T]:
        """The first column of each row, as asyncpg gives it."""
        return [row[0] for row in await executor.fetch(self.text, *self._order_arguments(arguments))]

    async def execute(self, executor: StatementExecutor, **arguments: Any) -> int:
        """Run it; the number of rows it touched."""
        return await executor.execute(self.text, *self._order_arguments(arguments))

    def _order_arguments(self, arguments: dict[str, Any]) -> list[Any]:
        if len(arguments) == len(self.parameters):
            try:
                return [arguments[name] for name in self.parameters]
            except KeyError:
                pass
        missing = [name for name in self.parameters if name not in arguments]
        unknown = [name for name in arguments if name not in self.parameters]
        raise TypeError(f"missing parameters {missing}, unknown parameters {unknown} of the statement: {self.text}")


class RowArrays(Generic[R]):
    """The rows of a batch as an array for each column, for a statement as text: `unnest` stands for the rows, and
    `read_rows` makes its arguments, of which the first is `$first`.

    Columns have the names of the fields in `tables.py`. `columns` says how each is read from what is written; for a
    dataclass or named tuple whose fields have the same names the class is enough.
    """

    __slots__ = ("_readers", "fields", "names", "unnest")

    def __init__(
        self, table: type[DeclaredTable], columns: Mapping[str, Callable[[R], Any]] | type[R], *, first: int = 1
    ) -> None:
        if isinstance(columns, type):
            columns = {name: attrgetter(name) for name in list_fields(columns)}
        self._readers, self.fields = tuple(columns.values()), tuple(columns)
        found = select_columns(table, self.fields)
        self.names = ", ".join(column.name for column in found)
        types = [column.type.compile(_DIALECT) for column in found]
        self.unnest = f"unnest({', '.join(f'${n}::{sql_type}[]' for n, sql_type in enumerate(types, first))})"

    def read_rows(self, rows: Collection[R]) -> list[list[Any]]:
        return [list(map(read, rows)) for read in self._readers]


class Upsert(Generic[R]):
    """Inserts many rows by one statement, and changes those that are there already. `columns`: as RowArrays takes them;
    a column more costs its line here or its field, and its line in `tables.py`.

    `shared`: the columns that hold the same in all rows of a statement; their values are given to `execute` by name.
    `changes`: the columns that a row that is there gets anew (default: all written ones but the key and those that are
    `fixed` when a row is inserted; `()` leaves it as it is). `condition`: SQL that such a row must meet to be changed,
    over the table's name and `excluded`. `key`: the columns that tell whether a row is there (default: the primary
    key).
    """

    __slots__ = ("_arrays", "_shared", "text")

    def __init__(
        self,
        table: type[DeclaredTable],
        columns: Mapping[str, Callable[[R], Any]] | type[R],
        *,
        shared: Iterable[str] = (),
        changes: Iterable[str] | None = None,
        fixed: Iterable[str] = (),
        condition: str = "",
        key: Iterable[str] | None = None,
    ) -> None:
        table_name, declared = get_table(table).name, get_columns(table)
        arrays = self._arrays = RowArrays(table, columns)
        self._shared = tuple(shared)
        written = (*arrays.fields, *self._shared)
        keys = tuple(key or (name for name, column in declared.items() if column.primary_key))
        kept = (*keys, *fixed)
        changed = [name for name in written if name not in kept] if changes is None else list(changes)
        if unwritten := [name for name in fixed if name not in written]:
            raise TypeError(f"nothing writes {', '.join(unwritten)} of {table_name}, which should be fixed")
        if missing := [n for n, c in declared.items() if n not in written and not c.nullable and not is_computed(c)]:
            raise TypeError(f"nothing writes {', '.join(missing)} of {table_name}, which has no default")
        values = [
            f"${number}::{column.type.compile(_DIALECT)}"
            for number, column in enumerate(select_columns(table, self._shared), len(arrays.fields) + 1)
        ]
        action = "DO NOTHING"
        if changed:
            action = "DO UPDATE SET " + assign_columns(table, changed, "excluded")
            action += f" WHERE {condition}" if condition else ""
        self.text = (
            f"INSERT INTO {table_name} ({', '.join(c.name for c in select_columns(table, written))})"
            f" SELECT {', '.join(['*', *values])} FROM {arrays.unnest}"
            f" ON CONFLICT ({', '.join(c.name for c in select_columns(table, keys))}) {action}"
        )

    async def execute(self, executor: StatementExecutor, rows: Collection[R], **shared: Any) -> int:
        """Write rows; the number that was inserted or changed."""
        if shared.keys() != set(self._shared):
            raise TypeError(
                f"the shared columns are {self._shared}, not {tuple(shared)}, of the statement: {self.text}"
            )
        return await executor.execute(
            self.text, *self._arrays.read_rows(rows), *[shared[name] for name in self._shared]
        )


def assign_columns(table: type[DeclaredTable], fields: Iterable[str], source: str) -> str:
    """`name = source.name` for each column, as UPDATE wants it."""
    return ", ".join(f"{column.name} = {source}.{column.name}" for column in select_columns(table, fields))
