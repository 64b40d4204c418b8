"""Patterns that custom resources hold, matched in time linear in the name: Python's own expressions can take for ever, and the operator has one loop."""

from functools import lru_cache
from typing import Any

import re2

MEMORY = 1 << 18
"""Bytes that one compiled pattern may take; a larger one is refused."""
_KEPT = 128


class BadPattern(ValueError):
    """The text is no pattern; the message says why, in the library's words."""


def found_in(pattern: str, name: str) -> bool:
    """Whether the pattern (RE2's syntax) is found anywhere in the name. Raises BadPattern."""
    return _compiled(pattern).search(name) is not None


def check(pattern: str) -> None:
    """Raises BadPattern."""
    _compiled(pattern)


@lru_cache(_KEPT)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.max_mem = MEMORY
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        raise BadPattern(_words(error)) from None


def _words(error: Exception) -> str:
    why = error.args[0] if error.args else ""
    return why.decode(errors="replace") if isinstance(why, bytes) else str(why)
