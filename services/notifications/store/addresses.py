"""Addresses to which mail came back, and the messages that did."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import gt
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, delete, select

from caravan.clock import make_lowest_id
from caravan.database import Database, UnitOfWork
from caravan.database.conditions import compare_if_given, is_among
from caravan.database.query import Query, StatementExecutor, Upsert
from caravan.database.tables import col, list_columns
from services.notifications import tables


@dataclass(frozen=True, slots=True)
class UndeliverableAddress:
    address: str
    cause: Literal["bounce", "complaint"]
    reason: str


class NotedAddress(NamedTuple):
    address: str
    cause: str
    reason: str
    noted_at: datetime


class AddressOwner(NamedTuple):
    address: str
    user_id: UUID


class SentMessage(NamedTuple):
    id: UUID
    about: str
    kind: str
    resends: int
    recipient: str


_NOTE = Upsert(tables.UndeliverableAddress, UndeliverableAddress, shared=("noted_at",))
_FIND_UNDELIVERABLE = Query(
    select(col(tables.UndeliverableAddress.address)).where(
        is_among(col(tables.UndeliverableAddress.address), "addresses")
    ),
    str,
)
_LIST = Query(
    select(*list_columns(tables.UndeliverableAddress, NotedAddress))
    .where(compare_if_given(col(tables.UndeliverableAddress.address), "after", gt))
    .order_by(col(tables.UndeliverableAddress.address))
    .limit(bindparam("limit")),
    NotedAddress,
)
_DELETE = Query(
    delete(tables.UndeliverableAddress).where(col(tables.UndeliverableAddress.address) == bindparam("address"))
)
_FIND_OWNERS = Query(
    select(col(tables.Recipient.email), col(tables.Recipient.user_id)).where(
        is_among(col(tables.Recipient.email), "addresses")
    ),
    AddressOwner,
)
_FIND_SENT = Query(
    select(*list_columns(tables.Notification, SentMessage)).where(
        is_among(col(tables.Notification.user_id), "users"),
        col(tables.Notification.id) >= bindparam("lowest_id"),
        col(tables.Notification.state) == "sent",
        col(tables.Notification.channel) == "email",
    ),
    SentMessage,
)


async def note_undeliverable(
    executor: StatementExecutor, addresses: Collection[UndeliverableAddress], now: datetime
) -> None:
    by_address = {noted.address: noted for noted in addresses}
    if by_address:
        await _NOTE.execute(executor, [by_address[address] for address in sorted(by_address)], noted_at=now)


async def find_undeliverable(uow: UnitOfWork, addresses: Collection[str]) -> set[str]:
    """Those of these addresses to which mail came back."""
    return set(await _FIND_UNDELIVERABLE.fetch_values(uow, addresses=sorted(set(addresses))))


async def list_undeliverable(database: Database, after: str | None, limit: int) -> list[NotedAddress]:
    return await _LIST.fetch_all(database, after=after, limit=limit)


async def forget_undeliverable(uow: UnitOfWork, address: str) -> bool:
    """Whether it was noted."""
    return await _DELETE.execute(uow, address=address) > 0


async def find_owners(uow: UnitOfWork, addresses: Sequence[str]) -> list[AddressOwner]:
    """The users who have these addresses now."""
    return await _FIND_OWNERS.fetch_all(uow, addresses=list(addresses))


async def find_sent_messages(uow: UnitOfWork, users: Sequence[UUID], since: datetime) -> list[SentMessage]:
    """The mails that these users were sent since then."""
    return await _FIND_SENT.fetch_all(uow, users=list(users), lowest_id=make_lowest_id(since))


async def fail_bounced(uow: UnitOfWork, reasons: dict[UUID, str], now: datetime) -> int:
    """Mails that came back are failed, with the reason; how many were sent until now."""
    return await uow.execute(
        "UPDATE notification n SET state = 'failed', reason = b.reason, due_at = $3"
        " FROM unnest($1::uuid[], $2::text[]) AS b (id, reason) WHERE n.id = b.id AND n.state = 'sent'",
        list(reasons.keys()),
        list(reasons.values()),
        now,
    )
