"""Patterns of custom resources, matched in time linear in the name. Python's own expressions can take exponential
time, and the operator has one event loop.
"""

from functools import lru_cache
from typing import Any

import re2

MAX_PATTERN_BYTES = 1 << 18
"""Bytes that one compiled pattern may take; a larger one is refused."""
_CACHE_SIZE = 128


class InvalidPattern(ValueError):
    """The text is not a valid pattern; the message is the library's."""


def is_match(pattern: str, name: str) -> bool:
    """Whether the pattern (RE2's syntax) is found anywhere in the name. Raises InvalidPattern."""
    return _compile_pattern(pattern).search(name) is not None


def check_pattern(pattern: str) -> None:
    """Raises InvalidPattern."""
    _compile_pattern(pattern)


@lru_cache(_CACHE_SIZE)
def _compile_pattern(pattern: str) -> Any:
    options = re2.Options()
    options.max_mem = MAX_PATTERN_BYTES
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        raise InvalidPattern(_get_error_text(error)) from None


def _get_error_text(error: Exception) -> str:
    message = error.args[0] if error.args else ""
    return message.decode(errors="replace") if isinstance(message, bytes) else str(message)
