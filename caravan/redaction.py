"""Removes secrets from what is logged or shown: the one list of secret names, and how values and texts lose what
follows such a name.

Logs, dead letters, causes of failures and jobs go through here. The texts are foreign, so every pattern takes time in
proportion to its text.
"""

import re
from typing import Any

SECRET_NAMES = ("password", "token", "secret", "authorization", "card", "cvv", "iban", "link")
"""Fields whose name contains one of these are never shown; `link`: a reset link is as good as the password."""
MASKED = "[masked]"
_MAX_DEPTH = 50
"""Below so many levels nothing is shown, nor looked at."""

_SECRET = re.compile("|".join(SECRET_NAMES), re.IGNORECASE)
_WORD = re.compile(r"[\w-]+")
_ASSIGNED = re.compile(r"""(\\*["']?\s*[:=]\s*)(?:\\*"[^"]*"?|\\*'[^']*'?|[^\s,;&}]+)""")
"""What follows a name: a value in quotes, also of JSON within JSON, or a word."""
_SCHEME = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]+", re.IGNORECASE)


def _is_secret_name(name: str) -> bool:
    return _SECRET.search(name) is not None


def redact_value(value: Any, depth: int = 0) -> Any:
    """A value of JSON without secrets: whatever has a secret name, and secrets inside texts."""
    if isinstance(value, str):
        return redact_text(value)
    if not isinstance(value, dict | list):
        return value
    if depth == _MAX_DEPTH:
        return MASKED
    if isinstance(value, list):
        return [redact_value(item, depth + 1) for item in value]
    return {
        name: MASKED if content is not None and _is_secret_name(name) else redact_value(content, depth + 1)
        for name, content in value.items()
    }


def redact_text(text: str) -> str:
    """A text without what follows a secret name (`token=…`, `"password": "…"`) or a scheme of HTTP authentication."""
    if not _SECRET.search(text) and not _SCHEME.search(text):
        return text
    text = _SCHEME.sub(rf"\1 {MASKED}", text)
    pieces: list[str] = []
    copied_to = 0
    for word in _WORD.finditer(text):
        if word.start() < copied_to or not _is_secret_name(word[0]):
            continue
        assigned = _ASSIGNED.match(text, word.end())
        if assigned is not None:
            pieces += (text[copied_to : assigned.end(1)], MASKED)
            copied_to = assigned.end()
    return "".join((*pieces, text[copied_to:]))
