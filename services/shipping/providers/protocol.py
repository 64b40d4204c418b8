"""What shipping asks of a carrier, whoever it is. A carrier is chosen in `main.py`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Booking:
    carrier: str
    tracking_number: str


class Carrier(Protocol):
    """Every call repeats: a key that is known is answered with its first booking. Any exception means that nothing is
    known.
    """

    async def book_pickup(self, key: str) -> Booking:
        """Book the pickup of an order's parcels."""

    async def is_delivered(self, tracking_number: str, shipped_at: datetime) -> bool:
        """Whether the parcels have arrived."""
