"""Named crash points: places where a test can end the process as SIGKILL would. Free when none is armed.

Points are named where they stand, `point("relay.after_send")`; a test collects the names from the source, so that an
unhit one is noticed.
"""

import os

_armed_name: str | None = None
_hits_left = 0


def arm(name_and_hit: str) -> None:
    """Arm `name` or `name:3`: the process ends at the first (or third) time that it passes the point."""
    global _armed_name, _hits_left
    name, _, count = name_and_hit.partition(":")
    _armed_name, _hits_left = name or None, int(count or 1)


def hit(name: str) -> None:
    global _hits_left
    if _armed_name is None or name != _armed_name:
        return
    _hits_left -= 1
    if _hits_left <= 0:
        os._exit(137)
