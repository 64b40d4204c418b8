"""Named failpoints: where a test can end the process as SIGKILL would. They cost nothing when none is armed.

Code calls `hit("relay.after_send")`; a test collects the names from the source, so that one that is never hit is
noticed.
"""

import os

_hits_left: dict[str, int] = {}
"""Of the point that is armed."""


def arm(name_and_hit: str) -> None:
    """Arm `name` or `name:3`: the process ends at the first (or third) time that it passes the point."""
    name, _, count = name_and_hit.partition(":")
    _hits_left.clear()
    if name:
        _hits_left[name] = int(count or 1)


def hit(name: str) -> None:
    if name not in _hits_left:
        return
    _hits_left[name] -= 1
    if _hits_left[name] <= 0:
        os._exit(137)
