"""Dead letters on Kafka: in the compacted topic `<subscription>.dlq`, a record per dead letter whose key is its origin,
and a tombstone once it is gone.

The origin contains the record's time, too: a topic that is created anew counts its offsets from 0 again, and a later
dead letter must not replace an earlier one.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime

from aiokafka import ConsumerRecord

from caravan.bus import DEAD_LETTER_MAX_BYTES, DeadLetter, IncomingMessage, cut_key
from caravan.clock import EPOCH

Headers = list[tuple[str, bytes]]


def build_dead_letter_id(record: ConsumerRecord) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}@{record.timestamp}"


def build_dead_letter_headers(channel: str, incoming: IncomingMessage, reason: str, now: datetime) -> Headers:
    fields = {
        "reason": reason[:2000],
        "channel": channel,
        "key": cut_key(incoming.key),
        "attempt": str(incoming.attempt),
        "died-at": now.isoformat(),
        "size": str(len(incoming.body)),
    }
    if fields["key"] != incoming.key:
        fields["whole-key"] = "no"
    if len(incoming.body) > DEAD_LETTER_MAX_BYTES:
        fields["sha256"] = hashlib.sha256(incoming.body).hexdigest()
    # An exception's text may hold what UTF-8 has no bytes for; it must not keep its message from being given up.
    return [(name, value.encode(errors="replace")) for name, value in fields.items()]


def read_record_key(record: ConsumerRecord) -> str:
    return (record.key or b"").decode(errors="replace")


def parse_dead_letter(record: ConsumerRecord, preview: int | None) -> DeadLetter:
    """With the first `preview` bytes of its body, or all."""
    headers = {name: value.decode(errors="replace") for name, value in record.headers if value is not None}
    size = _parse_number(headers, "size", len(record.value))
    return DeadLetter(
        id=read_record_key(record),
        subscription=record.topic.removesuffix(".dlq"),
        channel=headers.get("channel", ""),
        key=headers.get("key", ""),
        body=record.value[:preview],
        reason=headers.get("reason", ""),
        attempt=_parse_number(headers, "attempt", 1),
        dead_lettered_at=_parse_time(headers),
        size=size,
        redrivable=size <= len(record.value) and headers.get("whole-key") != "no",
    )


def _parse_number(headers: Mapping[str, str], name: str, default: int) -> int:
    text = headers.get(name, "")
    return int(text) if text.isdecimal() else default


def _parse_time(headers: Mapping[str, str]) -> datetime:
    """With a zone, whoever wrote it: dead letters are sorted by it."""
    try:
        time = datetime.fromisoformat(headers["died-at"])
    except (KeyError, ValueError):
        return EPOCH.astimezone(UTC)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
