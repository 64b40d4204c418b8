"""Which fault flags are on: a hash in the jobs' Redis, name to the time when each ends by itself. Every process whose
setting `CARAVAN_FAULTS` allows it reads the hash each second; `caravan faults` writes it.
"""

import asyncio
import time
from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import Any, cast

from caravan import fault_flags
from caravan.clock import Clock
from caravan.errors import InvalidRequest
from caravan.jobs import UNAVAILABLE_ERRORS, JobStore
from caravan.telemetry import log

_KEY = "caravan:faults"
_READ_SECONDS = 1.0
_BLOCKED_SHARE = 0.35


async def follow_switch(store: JobStore, clock: Clock, is_allowed: bool) -> None:
    """Apply what is switched, for as long as the process runs, if its settings allow it. What is on stays so while
    Redis is unavailable.
    """
    fault_flags.switch(())
    if not is_allowed:
        return
    try:
        while True:
            await _apply_switch(store, clock())
            if fault_flags.is_on(fault_flags.EVENT_LOOP_BLOCKED):
                _block(_READ_SECONDS * _BLOCKED_SHARE)
            await asyncio.sleep(_READ_SECONDS * (1 - _BLOCKED_SHARE))
    finally:
        fault_flags.switch(())


async def _apply_switch(store: JobStore, now: datetime) -> None:
    try:
        names = set(await list_faults(store, now))
    except UNAVAILABLE_ERRORS:
        return
    known = {flag for flag in names if fault_flags.get_name(flag) in fault_flags.FAULTS}
    if known != fault_flags.active:
        fault_flags.switch(names)
        log.warning("faults switched", on=sorted(fault_flags.active))


async def list_faults(store: JobStore, now: datetime) -> dict[str, datetime]:
    """Those that are on, and when each ends."""
    stored: dict[str, str] = await cast(Awaitable[Any], store.client.hgetall(_KEY))
    ends = {name: datetime.fromisoformat(end) for name, end in stored.items()}
    return {name: end for name, end in ends.items() if end > now}


async def switch_on(store: JobStore, flag: str, lasting: timedelta, now: datetime) -> datetime:
    """Until when it is on. `flag`: a fault, or `fault:target`."""
    if fault_flags.get_name(flag) not in fault_flags.FAULTS:
        raise InvalidRequest(f"there is no fault {flag}; there are {', '.join(fault_flags.FAULTS)}")
    end = now + lasting
    await store.client.hset(_KEY, flag, end.isoformat())
    return end


async def switch_off(store: JobStore, names: list[str]) -> None:
    """These, each with all its targets; all when none is named."""
    if names:
        stored: list[str] = await cast(Awaitable[Any], store.client.hkeys(_KEY))
        await store.client.hdel(_KEY, *names, *(flag for flag in stored if fault_flags.get_name(flag) in names))
    else:
        await store.client.delete(_KEY)


def _block(seconds: float) -> None:
    ended_at = time.perf_counter() + seconds
    while time.perf_counter() < ended_at:
        pass
