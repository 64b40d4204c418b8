"""Finds the messages of one key that a service's consumers have given up: in the dead letters of the bus, whichever
transport it has.

The other sources of the kernel are in `messages.py`; `caravan/dead_letters/` lists and redrives what is found here.
"""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import orjson

from caravan.bus import Bus, DeadLetter
from caravan.clock import as_id
from caravan.database import CONNECTION_LOST
from caravan.dead_letters import encode_dead_letter_id
from caravan.redaction import redact_text
from caravan.telemetry import log
from caravan.timeline.messages import ReadSubscription, get_channel_type
from caravan.timeline.schemas import DeadMessage, TimelineGap

SOURCE = "dead_letters"
DEAD_LETTERS_SHOWN = 200
READ_SECONDS = 0.5
"""A broker has to be read from end to end for them: when that takes longer, the rest of the timeline is shown."""


async def find_dead_messages(
    bus: Bus, service: str, consumers: Sequence[ReadSubscription], key: UUID
) -> tuple[list[DeadMessage], list[TimelineGap]]:
    """The messages of a key that these consumers gave up, the oldest first, and what is missing of them."""
    by_name = {each.subscription.name: each for each in consumers}
    if not by_name:
        return [], []
    try:
        async with asyncio.timeout(READ_SECONDS):
            dead_letters = await bus.list_dead_letters(
                [each.subscription for each in consumers], limit=DEAD_LETTERS_SHOWN + 1, key=str(key)
            )
    except (TimeoutError, *CONNECTION_LOST) as error:
        log.warning("the dead letters of a timeline are missing", error=repr(error))
        return [], [TimelineGap(source=SOURCE, reason=f"the dead letters of {service} could not be read in time")]
    gaps = []
    if len(dead_letters) > DEAD_LETTERS_SHOWN:
        reason = f"{service} has given up more than {DEAD_LETTERS_SHOWN} messages of it"
        gaps.append(TimelineGap(source=SOURCE, reason=reason))
    return [
        _to_dead_message(service, each, by_name[each.subscription]) for each in dead_letters[:DEAD_LETTERS_SHOWN]
    ], gaps


def _to_dead_message(service: str, dead_letter: DeadLetter, consumer: ReadSubscription) -> DeadMessage:
    message_id, message_type, cause = _read_envelope(dead_letter.body)
    return DeadMessage(
        id=message_id,
        failure=encode_dead_letter_id(service, "subscription", dead_letter),
        type=message_type,
        channel=dead_letter.channel,
        channel_type=get_channel_type(consumer.subscription),
        consumer=dead_letter.subscription,
        cause=cause,
        attempts=dead_letter.attempt,
        reason=redact_text(dead_letter.reason),
        failed_at=dead_letter.dead_lettered_at,
        redrivable=dead_letter.redrivable,
    )


def _read_envelope(body: bytes) -> tuple[UUID | None, str | None, UUID | None]:
    """Id, type and cause of a message; nothing of what is none."""
    try:
        envelope = orjson.loads(body)
        cause = envelope.get("causationid")
        return UUID(envelope["id"]), str(envelope["type"]), as_id(cause) if cause else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, None, None
