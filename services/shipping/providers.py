"""The carrier: a third party behind a Protocol, and the built-in simulation of one. A real one takes its place in
`open_parts`.
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from caravan.clock import Clock
from caravan.service import ServiceContext
from services.shipping.settings import Settings


@dataclass(frozen=True, slots=True)
class Booking:
    carrier: str
    tracking_number: str


class Carrier(Protocol):
    """Every call repeats: a key that is known is answered with its first booking. Any exception means that nothing is
    known.
    """

    async def book_pickup(self, key: str) -> Booking:
        """Hand the parcels of an order over."""

    async def is_delivered(self, tracking_number: str, shipped_at: datetime) -> bool:
        """Whether the parcels have arrived."""


class SimulatedCarrier:
    """Needs no memory: the tracking number follows from the key, and the parcels arrive a fixed time after they were
    handed over.
    """

    def __init__(self, delivery: timedelta, clock: Clock) -> None:
        self._delivery = delivery
        self._clock = clock

    async def book_pickup(self, key: str) -> Booking:
        return Booking(
            "Caravan Post", f"CP{int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], 'big') % 10**16:016d}"
        )

    async def is_delivered(self, tracking_number: str, shipped_at: datetime) -> bool:
        return self._clock() >= shipped_at + self._delivery


@dataclass(slots=True)
class ShippingResources:
    carrier: Carrier


@asynccontextmanager
async def open_resources(context: ServiceContext[Settings, Any]) -> AsyncIterator[ShippingResources]:
    yield ShippingResources(SimulatedCarrier(timedelta(seconds=context.settings.delivery_seconds), context.clock))
