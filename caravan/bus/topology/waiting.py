"""Waiting for brokers and for what others declare, with a deadline, and with what is missing in the log."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from aio_pika.exceptions import AMQPError
from aiokafka.errors import KafkaError

from caravan.bus.topology import BrokerAway, Thing, TopologyError
from caravan.telemetry import log

T = TypeVar("T")

AWAY = (KafkaError, AMQPError, OSError, TimeoutError, BrokerAway)
"""What a client raises while its broker is not there (yet)."""
POLL_SECONDS = 1.0
NAMED = 5
"""How many missing things a line of the log names."""


async def reachable(what: str, work: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Do this work, again and again while the broker is away. Raises TopologyError at the deadline."""
    end = time.monotonic() + seconds
    while True:
        try:
            return await work()
        except AWAY as error:
            if time.monotonic() > end:
                raise TopologyError(f"{what} was not reached within {seconds:g} s: {_reason(error)}") from None
            log.warning("waiting for a broker", broker=what, error=_reason(error), seconds_left=round(end - time.monotonic()))
        await asyncio.sleep(POLL_SECONDS)


async def present(what: str, missing: Callable[[], Awaitable[Sequence[Thing]]], seconds: float) -> None:
    """Wait until nothing is missing on this broker. Raises TopologyError at the deadline, naming what is."""
    end = time.monotonic() + seconds
    while True:
        absent = await reachable(what, missing, end - time.monotonic())
        if not absent:
            return
        named = ", ".join(f"{thing.kind} {thing.name}" for thing in absent[:NAMED]) + (", ..." if len(absent) > NAMED else "")
        if time.monotonic() > end:
            raise TopologyError(
                f"{what}: {len(absent)} topics, queues or exchanges are missing after {seconds:g} s ({named}): CARAVAN_DECLARE=false leaves them to the "
                "operator or to `caravan topology apply`"
            )
        log.warning("waiting for topology", broker=what, missing=len(absent), named=named, seconds_left=round(end - time.monotonic()))
        await asyncio.sleep(POLL_SECONDS)


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, TopologyError) else repr(error)
