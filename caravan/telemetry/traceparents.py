"""W3C's `traceparent` and `tracestate` as texts: made, checked and read. `trace.py` says which is the current one."""

import os
import random
import re

_random = random.Random(os.urandom(16))
_TRACEPARENT = re.compile("00-(?!0{32})[0-9a-fA-F]{32}-(?!0{16})[0-9a-fA-F]{16}-[0-9a-fA-F]{2}")
_TRACESTATE = re.compile("caravan=(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})")


def new_traceparent() -> str:
    """Names a new trace, in which nothing is recorded yet."""
    return f"00-{_random.getrandbits(128) or 1:032x}-{_random.getrandbits(64) or 1:016x}-00"


def parse_traceparent(value: object) -> str | None:
    """The header if it is one this version of the W3C format allows, else None."""
    return value.lower() if isinstance(value, str) and _TRACEPARENT.fullmatch(value) else None


def parse_trace_id(value: str | None) -> str | None:
    """The trace that a traceparent names; None for none."""
    return value[3:35] if value else None


def find_origin(tracestate: object) -> str | None:
    """The traceparent of the span in which a message was made, where that is in another trace than the message. Of a
    tracestate that is not ours nothing is taken.
    """
    match = _TRACESTATE.fullmatch(tracestate) if isinstance(tracestate, str) else None
    return f"00-{match[1]}-{match[2]}-01" if match else None
