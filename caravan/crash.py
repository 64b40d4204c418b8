"""Named crash points: places where a test can end the process as SIGKILL would. Free when none is armed.

Points are named where they stand, `point("relay.after_send")`; a test collects the names from the source, so that an unhit one is noticed.
"""

import os

_armed: str | None = None
_left = 0


def arm(point_and_hit: str) -> None:
    """Arm `name` or `name:3`: the process ends at the first (or third) time that it passes the point."""
    global _armed, _left
    name, _, hit = point_and_hit.partition(":")
    _armed, _left = name or None, int(hit or 1)


def point(name: str) -> None:
    global _left
    if _armed is None or name != _armed:
        return
    _left -= 1
    if _left <= 0:
        os._exit(137)
