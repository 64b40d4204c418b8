"""The tables of notifications: the one source of their shape. `migrations/` brings a database there."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text

from caravan.database import tables as sql
from caravan.database.tables import DeclaredTable, define_column, define_registry


class NotificationsTable(DeclaredTable, registry=define_registry("notifications")):
    pass


class Notification(NotificationsTable, table=True):
    """What is due is found in an index of what is pending only, however many rows are finished. `held_due_at`: when it
    was due before its campaign was stopped.
    """

    __tablename__ = "notification"
    __table_args__ = (
        CheckConstraint("channel IN ('email', 'sms', 'log')", name="notification_channel_check"),
        CheckConstraint("priority IN ('critical', 'standard', 'bulk')", name="notification_priority_check"),
        CheckConstraint("state IN ('pending', 'sent', 'failed', 'suppressed')", name="notification_state_check"),
        UniqueConstraint("about", "kind", name="notification_once"),
        Index("notification_due", "priority", "due_at", postgresql_where=text("state = 'pending'")),
        Index("notification_user", "user_id", "id", postgresql_where=text("user_id IS NOT NULL")),
        Index("notification_order", "order_id", "id", postgresql_where=text("order_id IS NOT NULL")),
        Index("notification_ownerless", "id", postgresql_where=text("user_id IS NULL AND order_id IS NOT NULL")),
        Index("notification_failed", "id", postgresql_where=text("state = 'failed'")),
        Index(
            "notification_given_up",
            "due_at",
            "id",
            postgresql_where=text("state = 'failed' AND discarded_at IS NULL"),
        ),
        Index("notification_run", "run_id", "state", postgresql_where=text("run_id IS NOT NULL")),
        {
            "postgresql_with": {
                "autovacuum_vacuum_scale_factor": "0.01",
                "autovacuum_vacuum_threshold": "5000",
                "autovacuum_vacuum_cost_delay": "0",
            }
        },
    )

    id: UUID = define_column(sql.UUID, primary_key=True)
    about: str = define_column(sql.TEXT)
    kind: str = define_column(sql.TEXT)
    user_id: UUID | None = define_column(sql.UUID)
    order_id: UUID | None = define_column(sql.UUID)
    channel: str = define_column(sql.TEXT)
    recipient: str = define_column(sql.TEXT)
    priority: str = define_column(sql.TEXT)
    state: str = define_column(sql.TEXT)
    attempts: int = define_column(sql.SMALLINT, default="0")
    created_at: datetime = define_column(sql.TIMESTAMPTZ)
    due_at: datetime = define_column(sql.TIMESTAMPTZ)
    sent_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    subject: str | None = define_column(sql.TEXT)
    reason: str | None = define_column(sql.TEXT)
    values: dict[str, Any] | None = define_column(sql.JSON)
    run_id: UUID | None = define_column(sql.UUID)
    discarded_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    resends: int = define_column(sql.SMALLINT, default="0")
    held_due_at: datetime | None = define_column(sql.TIMESTAMPTZ)


class Preference(NotificationsTable, table=True):
    __tablename__ = "preference"
    __table_args__ = (
        CheckConstraint("channel IN ('email', 'sms', 'log')", name="preference_channel_check"),
        CheckConstraint("channel <> 'sms' OR phone IS NOT NULL", name="preference_check"),
    )

    user_id: UUID = define_column(sql.UUID, primary_key=True)
    channel: str = define_column(sql.TEXT, default="'email'")
    phone: str | None = define_column(sql.TEXT)
    opt_out: list[str] = define_column(sql.ARRAY(sql.TEXT), default="'{}'")
    version: int = define_column(sql.INTEGER, default="0")
    time_zone: str | None = define_column(sql.TEXT)


class Recipient(NotificationsTable, table=True):
    """Whom campaigns can reach: a copy of identity's customers."""

    __tablename__ = "recipient"
    __table_args__ = (Index("recipient_email", "email"),)

    user_id: UUID = define_column(sql.UUID, primary_key=True)
    email: str = define_column(sql.TEXT)
    name: str = define_column(sql.TEXT)
    active: bool = define_column(sql.BOOLEAN)
    version: int = define_column(sql.INTEGER)
    registered_at: datetime = define_column(sql.TIMESTAMPTZ)
    verified: bool = define_column(sql.BOOLEAN, default="true")


class Campaign(NotificationsTable, table=True):
    __tablename__ = "campaign"
    __table_args__ = (Index("campaign_next", "next_at", postgresql_where=text("next_at IS NOT NULL AND NOT stopped")),)

    id: UUID = define_column(sql.UUID, primary_key=True)
    name: str = define_column(sql.TEXT)
    subject: str = define_column(sql.TEXT)
    text: str = define_column(sql.TEXT)
    segment: dict[str, Any] = define_column(sql.JSON)
    cron: str | None = define_column(sql.TEXT)
    time_zone: str = define_column(sql.TEXT)
    next_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    stopped: bool = define_column(sql.BOOLEAN, default="false")
    created_by: str = define_column(sql.TEXT)
    created_at: datetime = define_column(sql.TIMESTAMPTZ)
    local_time: bool = define_column(sql.BOOLEAN, default="false")
    with_recommendations: bool = define_column(sql.BOOLEAN, default="false")


class CampaignRun(NotificationsTable, table=True):
    __tablename__ = "campaign_run"
    __table_args__ = (
        CheckConstraint("state IN ('writing', 'written', 'missed')", name="campaign_run_state_check"),
        UniqueConstraint("campaign_id", "due_at", name="campaign_run_once"),
        Index("campaign_run_writing", "moved_at", postgresql_where=text("state = 'writing'")),
    )

    id: UUID = define_column(sql.UUID, primary_key=True)
    campaign_id: UUID = define_column(sql.UUID, ForeignKey("campaign.id"))
    due_at: datetime = define_column(sql.TIMESTAMPTZ)
    state: str = define_column(sql.TEXT)
    position: UUID | None = define_column(sql.UUID)
    recipients: int = define_column(sql.INTEGER, default="0")
    written: int = define_column(sql.INTEGER, default="0")
    started_at: datetime = define_column(sql.TIMESTAMPTZ)
    moved_at: datetime = define_column(sql.TIMESTAMPTZ)


class LastOrder(NotificationsTable, table=True):
    """Of a user whose notification of it was deleted for its age."""

    __tablename__ = "last_order"

    user_id: UUID = define_column(sql.UUID, primary_key=True)
    notification_id: UUID = define_column(sql.UUID)


class SendingRate(NotificationsTable, table=True):
    """How far the permitted messages of a priority are spent: a message takes its share of a second from `spent_until`
    on, and nothing is sent ahead of the time.
    """

    __tablename__ = "sending_rate"

    priority: str = define_column(sql.TEXT, primary_key=True)
    spent_until: datetime = define_column(sql.TIMESTAMPTZ)


class UndeliverableAddress(NotificationsTable, table=True):
    """Mail to it came back for good, or its reader complained. It gets no alerts and no promotions; whoever changes the
    address of their account has another one.
    """

    __tablename__ = "undeliverable_address"
    __table_args__ = (CheckConstraint("cause IN ('bounce', 'complaint')", name="undeliverable_address_cause_check"),)

    address: str = define_column(sql.TEXT, primary_key=True)
    cause: str = define_column(sql.TEXT)
    reason: str = define_column(sql.TEXT)
    noted_at: datetime = define_column(sql.TIMESTAMPTZ)
