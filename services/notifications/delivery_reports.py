"""Reads what mail servers send back of a mail that they could not deliver: delivery status notifications (RFC 3464).

Anybody can write such a mail, so what one says counts only for a message of ours that it names
(`use_cases/bounces.py`), and reading it is bounded: by its size, and by how deep its parts can be nested.
"""

import email
import re
from email.message import Message
from email.policy import compat32

from pydantic import ValidationError

from caravan.email_address import is_email_address
from caravan.errors import InvalidRequest
from caravan.printable import escape_unprintable
from services.notifications.enhanced_status import is_bad_address
from services.notifications.schemas import BounceEvent

MAX_BYTES = 512 * 1024
MAX_PARTS = 30
"""Each part has a content type, or is of none that could hold others."""
MAX_RECIPIENTS = 100
MAX_REASON = 500
_PART_SIGN = re.compile(rb"^content-type[ \t]*:", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID = re.compile(r"<([^<>\s]{1,900})>")


def read_delivery_report(content: bytes) -> list[BounceEvent]:
    """A bounce for each recipient whom the report calls failed for good; none of a delay, or of what was delivered.
    Raises InvalidRequest for what is no such report.
    """
    if len(content) > MAX_BYTES:
        raise _build_invalid(f"at most {MAX_BYTES} bytes; leave out the text of the mail that came back")
    if len(_PART_SIGN.findall(content)) > MAX_PARTS:
        raise _build_invalid(f"at most {MAX_PARTS} parts")
    mail = email.message_from_bytes(content, policy=compat32)
    parts = {part.get_content_type(): part for part in reversed(list(mail.walk()))}
    status = parts.get("message/delivery-status")
    if mail.get_content_type() != "multipart/report" or status is None or not status.is_multipart():
        raise _build_invalid("must be a delivery status notification: a multipart/report with message/delivery-status")
    blocks = [block for block in status.get_payload() if isinstance(block, Message)]
    message_id = _find_message_id(parts)
    events = [_read_recipient(block, message_id) for block in blocks[1 : MAX_RECIPIENTS + 1]]
    return [event for event in events if event is not None]


def _build_invalid(rule: str) -> InvalidRequest:
    return InvalidRequest(f"body: {rule}", errors=[{"field": "body", "rule": rule}])


def _find_message_id(parts: dict[str, Message]) -> str:
    """Of the mail that came back, which the report has whole or its headers alone."""
    whole, headers = parts.get("message/rfc822"), parts.get("text/rfc822-headers")
    text = ""
    if whole is not None and whole.is_multipart():
        returned = whole.get_payload(0)
        text = str(returned.get("Message-ID", "")) if isinstance(returned, Message) else ""
    elif headers is not None:
        payload = headers.get_payload(decode=True)
        text = str(email.message_from_bytes(payload).get("Message-ID", "")) if isinstance(payload, bytes) else ""
    found = _MESSAGE_ID.search(text)
    return found[1] if found else ""


def _read_recipient(block: Message, message_id: str) -> BounceEvent | None:
    """The address as we wrote to it, where the report tells: a forwarding server has another one at the end."""
    if _read_field(block, "Action").lower() != "failed":
        return None
    addresses = (_read_typed(block, name) for name in ("Original-Recipient", "Final-Recipient"))
    recipient = next((address for address in addresses if is_email_address(address)), "")
    status = _read_field(block, "Status")
    reason = " ".join(part for part in (status, _read_typed(block, "Diagnostic-Code")) if part) or "no reason given"
    try:
        return BounceEvent(
            type="bounce",
            recipient=recipient,
            message_id=message_id or None,
            is_permanent=is_bad_address(status),
            reason=escape_unprintable(reason)[:MAX_REASON],
        )
    except ValidationError:
        return None


def _read_typed(block: Message, name: str) -> str:
    """A field's value after its type: `rfc822; ada@example.com`."""
    return _read_field(block, name).partition(";")[2].strip()


def _read_field(block: Message, name: str) -> str:
    return " ".join(str(block.get(name, "")).split())
