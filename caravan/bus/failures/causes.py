"""What failures have in common, and what of them may be shown. Pure."""

import hashlib
import re
from typing import Any

import orjson

SECRET_NAMES = ("password", "token", "secret", "authorization", "card", "cvv", "iban", "link")
"""Fields whose name contains one of these are never shown; `link`: a reset link is as good as the password."""
MASKED = "[masked]"

_VARIABLE = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?"), "<time>"),
    (re.compile(r"\b(0x)?(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\d+(\.\d+)?"), "<n>"),
    (re.compile(r"\s+"), " "),
)
_NAMES = "|".join(SECRET_NAMES)
_FIELD = re.compile(rf"""(["']?[\w-]*(?:{_NAMES})[\w-]*["']?\s*[:=]\s*)("[^"]*"?|'[^']*'?|[^\s,;&}}]+)""", re.IGNORECASE)
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]+", re.IGNORECASE)


def normalised(reason: str) -> str:
    """A reason without what differs from case to case: ids, times, numbers."""
    for pattern, stands_for in _VARIABLE:
        reason = pattern.sub(stands_for, reason)
    return reason.strip()[:300]


def cause_of(reason: str) -> str:
    """The same short name for reasons that differ only in ids, times and numbers; stable over releases."""
    return hashlib.sha256(normalised(reason).encode()).hexdigest()[:12]


def masked(value: Any) -> Any:
    """The value without secrets: by the names of fields, and inside texts."""
    if isinstance(value, dict):
        return {name: MASKED if _is_secret(name, content) else masked(content) for name, content in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return masked_text(value) if isinstance(value, str) else value


def _is_secret(name: str, content: Any) -> bool:
    return content is not None and not isinstance(content, (dict, list)) and any(secret in name.lower() for secret in SECRET_NAMES)


def masked_text(text: str) -> str:
    return _FIELD.sub(rf"\1{MASKED}", _BEARER.sub(rf"\1 {MASKED}", text))


def payload_of(body: bytes, size: int) -> Any:
    """The message as JSON where it is, else its text (its beginning); without secrets."""
    if size <= len(body):
        try:
            return masked(orjson.loads(body))
        except orjson.JSONDecodeError:
            pass
    text = masked_text(body.decode(errors="replace"))
    return text if size <= len(body) else f"{text} [... {size} bytes]"
