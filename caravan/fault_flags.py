"""Fault flags: kinds of trouble that a running process makes on purpose, so that each alert can be rehearsed.

Code asks `if fault_flags.active:` where a fault has its place, one look at an empty set while none is on. Which are on
is said by `caravan faults`, and read by `caravan/runtime/fault_switch.py` where the setting allows it. A fault is on
everywhere, or for one target: a service, one of its subscriptions, queues or tasks, a provider
(`consumer-stuck:analytics`, `consumer-stuck:analytics.order-created`).

Whose fault a failed call is has nothing to do with these: `caravan/fault_attribution.py`.
"""

import asyncio
from collections.abc import Callable, Iterable

from caravan.telemetry import metrics

DATABASE_SLOW = "database-slow"
DATABASE_UNAVAILABLE = "database-unavailable"
CACHE_UNAVAILABLE = "cache-unavailable"
OUTBOX_BLOCKED = "outbox-blocked"
MESSAGE_REFUSED = "message-refused"
CONSUMER_STUCK = "consumer-stuck"
POISON_MESSAGE = "poison-message"
HANDLER_FAILING = "handler-failing"
JOB_FAILING = "job-failing"
TASK_FAILING = "task-failing"
EVENT_LOOP_BLOCKED = "event-loop-blocked"
PROVIDER_FAILING = "provider-failing"
PROVIDER_SLOW = "provider-slow"
PROVIDER_REFUSING = "provider-refusing"

FAULTS = {
    DATABASE_SLOW: "Each transaction holds its connection for a second before it begins (of a database).",
    DATABASE_UNAVAILABLE: "No statement reaches the database (of that name).",
    CACHE_UNAVAILABLE: "The Redis of the cache does not answer.",
    OUTBOX_BLOCKED: "No relay publishes: what is committed stays in the outbox (of a service).",
    MESSAGE_REFUSED: "The bus refuses each message for good (of a service's outbox).",
    CONSUMER_STUCK: "No reader handles its next batch (of a service or subscription).",
    POISON_MESSAGE: "No message can be read: each becomes a dead letter (of a service or subscription).",
    HANDLER_FAILING: "The first attempt of each message fails (of a service or subscription).",
    JOB_FAILING: "Each job fails, and is not tried again (of a service or queue).",
    TASK_FAILING: "Each run of a periodic task ends its loop (of a service, or service.task).",
    EVENT_LOOP_BLOCKED: "The event loop is blocked for a third of each second.",
    PROVIDER_FAILING: "Third parties break the connection (payment, shipping, email or sms).",
    PROVIDER_SLOW: "Third parties need 1.6 seconds for each answer (payment, shipping, email or sms).",
    PROVIDER_REFUSING: "The provider of payments declines every charge (payment).",
}
"""Each fault and what it does; in brackets what its target may be. Without a target it is on for all of them."""

_SLOW_SECONDS = 1.0
_SLOW_PROVIDER_SECONDS = 1.6
_HOLD_SECONDS = 0.2

active: set[str] = set()
"""Those that are on in this process: `name`, or `name:target`."""


class FaultInjected(ConnectionError):
    """Raised by a fault that is on. Nothing is wrong but that."""


def get_name(flag: str) -> str:
    """The fault of a flag: `consumer-stuck` of `consumer-stuck:analytics`."""
    return flag.partition(":")[0]


def switch(flags: Iterable[str]) -> None:
    """Have these on, and no others. A fault that this version does not know is left out."""
    active.clear()
    active.update(flag for flag in flags if get_name(flag) in FAULTS)
    names = {get_name(flag) for flag in active}
    for name in FAULTS:
        metrics.FAULT_ACTIVE.labels(name).set(name in names)


def is_on(name: str, target: str = "") -> bool:
    """Whether it is on for all, for this target, or for what owns it: `analytics` of `analytics.order-created`."""
    return name in active or f"{name}:{target}" in active or f"{name}:{target.partition('.')[0]}" in active


async def slow_down(name: str, target: str = "") -> None:
    if is_on(name, target):
        await asyncio.sleep(_SLOW_SECONDS)


def fail(name: str, target: str = "") -> None:
    if is_on(name, target):
        raise FaultInjected(f"the fault {name} is on; `caravan faults off` ends it")


async def hold(name: str, target: str, is_stopping: Callable[[], bool]) -> None:
    """Return when the fault is off, or the process stops."""
    while is_on(name, target) and not is_stopping():
        await asyncio.sleep(_HOLD_SECONDS)


async def disturb_provider(provider: str) -> None:
    """What a third party does wrong that answers late or not at all."""
    fail(PROVIDER_FAILING, provider)
    if is_on(PROVIDER_SLOW, provider):
        await asyncio.sleep(_SLOW_PROVIDER_SECONDS)
