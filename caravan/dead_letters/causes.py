"""Groups failures by cause, and redacts what is shown of them. Pure; `caravan/redaction.py` knows what is secret."""

import hashlib
import re
from typing import Any

import orjson

from caravan.redaction import redact_text, redact_value

_REASON_MAX_LENGTH = 2000
"""So much of a reason is looked at: what comes later tells no other cause."""

_VARIABLE_PATTERNS = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?"), "<time>"),
    (re.compile(r"\b(0x)?(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\d+(\.\d+)?"), "<n>"),
    (re.compile(r"\s+"), " "),
)


def normalize_reason(reason: str) -> str:
    """A reason without what differs from case to case: ids, times, numbers."""
    reason = reason[:_REASON_MAX_LENGTH]
    for pattern, placeholder in _VARIABLE_PATTERNS:
        reason = pattern.sub(placeholder, reason)
    return reason.strip()[:300]


def compute_cause(reason: str) -> str:
    """The same short name for reasons that differ only in ids, times and numbers; stable over releases."""
    return hashlib.sha256(normalize_reason(reason).encode()).hexdigest()[:12]


def redact_payload(body: bytes, size: int) -> Any:
    """The message as JSON where it is, else its text (its beginning); without secrets."""
    if size <= len(body):
        try:
            return redact_value(orjson.loads(body))
        except orjson.JSONDecodeError:
            pass
    text = redact_text(body.decode(errors="replace"))
    return text if size <= len(body) else f"{text} [... {size} bytes]"
