"""The kernel's tables: outbox, inbox and idempotency records, which stand beside each service's own ones
(`DatabaseDeclaration.has_kernel_tables`), and the columns of the event store for a service that has one.

`caravan/database/migrations/versions` brings a database there; the embedded bus declares its own tables.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Identity, Index, PrimaryKeyConstraint, text

from caravan.database import tables as sql
from caravan.database.tables import DeclaredTable, define_column, define_registry

QUEUE_OPTIONS = {
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_threshold": "5000",
    "autovacuum_vacuum_cost_delay": "0",
}
"""Of a table whose rows come and go: cleaned by the number of removed rows, however large the table once was."""


class KernelTable(DeclaredTable, registry=define_registry("kernel")):
    pass


class Outbox(KernelTable, table=True):
    __tablename__ = "outbox"
    __table_args__ = (
        Index("outbox_refused", "channel", "key", postgresql_where=text("refused_at IS NOT NULL")),
        {"postgresql_with": QUEUE_OPTIONS},
    )

    id: int = define_column(sql.BIGINT, Identity(always=True), primary_key=True)
    message_id: UUID = define_column(sql.UUID)
    kind: str = define_column(sql.TEXT)
    channel: str = define_column(sql.TEXT)
    route: str = define_column(sql.TEXT)
    key: str = define_column(sql.TEXT)
    body: bytes = define_column(sql.BYTEA)
    created_at: datetime = define_column(sql.TIMESTAMPTZ, default="now()")
    refused_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    reason: str | None = define_column(sql.TEXT)


class Inbox(KernelTable, table=True):
    """A message that a consumer has handled, and what of it shows where it belongs (`caravan/timeline`).

    `key` is that of the message where it is an id, `cause` the message that it answers. Null is the usual case: `type`
    of a consumer that reads one type, `attempt` of a message that succeeded at once, `refused` (how often it came
    again) of one that came once.

    The message comes first in the key: ids rise, so that new entries of all consumers go to the end of the index, and
    are found there by comparing numbers.
    """

    __tablename__ = "inbox"
    __table_args__ = (
        PrimaryKeyConstraint("message_id", "consumer"),
        Index("inbox_handled_at", "handled_at", postgresql_using="brin"),
        Index("inbox_key", "key", postgresql_where=text("key IS NOT NULL")),
    )

    consumer: str = define_column(sql.TEXT)
    message_id: UUID = define_column(sql.UUID)
    handled_at: datetime = define_column(sql.TIMESTAMPTZ, default="now()")
    key: UUID | None = define_column(sql.UUID)
    cause: UUID | None = define_column(sql.UUID)
    type: str | None = define_column(sql.TEXT)
    attempt: int | None = define_column(sql.SMALLINT)
    refused: int | None = define_column(sql.INTEGER)


class Idempotency(KernelTable, table=True):
    __tablename__ = "idempotency"
    __table_args__ = (Index("idempotency_expires_at", "expires_at"),)

    scope: str = define_column(sql.TEXT, primary_key=True)
    key: str = define_column(sql.TEXT, primary_key=True)
    fingerprint: bytes = define_column(sql.BYTEA)
    status: int = define_column(sql.SMALLINT)
    headers: dict[str, Any] = define_column(sql.JSON)
    body: bytes = define_column(sql.BYTEA)
    expires_at: datetime = define_column(sql.TIMESTAMPTZ)


class EventColumns(DeclaredTable):
    """The columns of the event store. `class Event(EventColumns, OrdersTable, table=True)` declares it, with
    `__table_args__ = build_event_arguments()`; `add_ddl` of each of `caravan.events.APPEND_ONLY_DDL` makes it
    append-only.
    """

    stream: UUID = define_column(sql.UUID)
    version: int = define_column(sql.INTEGER)
    type: str = define_column(sql.TEXT)
    data_version: int = define_column(sql.INTEGER)
    data: dict[str, Any] = define_column(sql.JSON)
    time: datetime = define_column(sql.TIMESTAMPTZ)
    actor: str | None = define_column(sql.TEXT)
    trace_id: str | None = define_column(sql.TEXT)
    transaction: int = define_column(sql.XID8, default="pg_current_xact_id()")
    position: int = define_column(sql.BIGINT, Identity(always=True))


def build_event_arguments() -> tuple[Any, ...]:
    """The `__table_args__` of a table with EventColumns."""
    return (
        PrimaryKeyConstraint("stream", "version"),
        CheckConstraint("version > 0", name="event_version_check"),
        Index("event_log", "transaction", "position"),
    )
