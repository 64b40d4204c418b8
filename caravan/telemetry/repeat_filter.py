"""Keeps libraries from filling a log with one line over and over: while a broker is away, a client may log each of its
tries, hundreds a second.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

MAX_KINDS = 1000


@dataclass(slots=True)
class _Repeats:
    since: float
    lines: int = 0


class RepeatFilter(logging.Filter):
    """Of each kind of line, which is its logger and its template, at most `lines` within `seconds`. The first one after
    that says how many were left out. The shop's own lines all pass.
    """

    def __init__(
        self,
        lines: int = 10,
        seconds: float = 60.0,
        *,
        own: str = "caravan",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._lines, self._seconds, self._own, self._clock = lines, seconds, own, clock
        self._kinds: dict[tuple[str, str], _Repeats] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == self._own:
            return True
        now, kind = self._clock(), (record.name, str(record.msg))
        seen = self._kinds.get(kind)
        if seen is None or now - seen.since >= self._seconds:
            if len(self._kinds) >= MAX_KINDS:
                self._kinds.clear()
            self._kinds[kind] = _Repeats(now, 1)
            if seen is not None and seen.lines > self._lines:
                left_out = seen.lines - self._lines
                record.msg = f"{record.msg} ({left_out} more like it were left out since)"
            return True
        seen.lines += 1
        return seen.lines <= self._lines
