"""What mail providers report after they took a mail: it came back, or its reader complained."""

import asyncio
from collections.abc import Sequence

from caravan.telemetry import log
from services.notifications.delivery_reports import read_delivery_report
from services.notifications.metrics import BOUNCES
from services.notifications.model import BOUNCE_WINDOW, build_provider_key
from services.notifications.schemas import BounceEvent, BounceReceipt, BounceReport, DeliveryReceipt
from services.notifications.store import addresses, campaigns
from services.notifications.store.addresses import UndeliverableAddress
from services.notifications.use_cases import NotificationsContext


async def record_bounces(context: NotificationsContext, report: BounceReport) -> BounceReceipt:
    """Fail the mails that came back, and note the addresses that take none. The same report again changes nothing."""
    now, events = context.clock(), report.events
    noted = [
        UndeliverableAddress(event.recipient, "bounce" if event.type == "bounce" else "complaint", event.reason)
        for event in events
        if event.type == "complaint" or event.is_permanent
    ]
    returned = {
        _read_provider_key(event.message_id): f"came back: {event.reason}"
        for event in events
        if event.type == "bounce" and event.message_id
    }
    async with context.database.unit_of_work() as uow:
        await addresses.note_undeliverable(uow, noted, now)
        owners = await addresses.find_owners(uow, [event.recipient for event in events])
        sent_messages = await addresses.find_sent_messages(
            uow, [owner.user_id for owner in owners], now - BOUNCE_WINDOW
        )
        reasons = {
            message.id: returned[key]
            for message in sent_messages
            if (key := build_provider_key(message.about, message.kind, message.resends)) in returned
        }
        failed = await addresses.fail_bounced(uow, reasons, now)
        lost = {address.address for address in noted}
        for owner in owners:
            if owner.address in lost:
                await campaigns.suppress_pending(uow, owner.user_id)
    for event in events:
        BOUNCES.labels(event.type if event.is_permanent or event.type != "bounce" else "transient").inc()
    log.info("bounces", events=len(events), undeliverable=len(noted), failed=failed)
    return BounceReceipt(undeliverable=len(lost), failed=failed)


async def record_delivery_report(context: NotificationsContext, content: bytes) -> DeliveryReceipt:
    """What a mail server sent back. Whoever writes to the address for bounces could have written it, so it counts only
    for a recipient to whom a message went that it names: its Message-ID is known to whoever got the message alone.
    """
    events = await asyncio.to_thread(read_delivery_report, content)
    known = await _select_sent(context, events)
    receipt = (
        await record_bounces(context, BounceReport(events=known)) if known else BounceReceipt(undeliverable=0, failed=0)
    )
    return DeliveryReceipt(**receipt.model_dump(), ignored=len(events) - len(known))


async def _select_sent(context: NotificationsContext, events: Sequence[BounceEvent]) -> list[BounceEvent]:
    """Those whose message was sent to their recipient."""
    since = context.clock() - BOUNCE_WINDOW
    async with context.database.unit_of_work() as uow:
        owners = await addresses.find_owners(uow, [event.recipient for event in events])
        sent = await addresses.find_sent_messages(uow, [owner.user_id for owner in owners], since)
    keys = {(message.recipient, build_provider_key(message.about, message.kind, message.resends)) for message in sent}
    return [
        event
        for event in events
        if event.message_id and (event.recipient, _read_provider_key(event.message_id)) in keys
    ]


def _read_provider_key(message_id: str) -> str:
    """The provider key that a Message-ID holds, with angle brackets or without."""
    return message_id.strip("<> ").partition("@")[0]
