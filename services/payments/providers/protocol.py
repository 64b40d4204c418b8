"""What payments asks of a payment provider, whoever it is. A provider is chosen in `main.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from caravan.money import Money
from services.payments.schemas import LedgerKind, LedgerOutcome


@dataclass(frozen=True, slots=True)
class CaptureSuccess:
    charge: str


@dataclass(frozen=True, slots=True)
class CaptureDecline:
    """Nothing was charged. A `hard` one will be declined again, whatever the attempt."""

    reason: str
    hard: bool


@dataclass(frozen=True, slots=True)
class ProviderLedgerEntry:
    """What the provider's books hold for a key."""

    key: str
    kind: LedgerKind
    outcome: LedgerOutcome
    amount: Money
    reason: str
    charge: str | None
    at: datetime
    reference: str = ""


class NoProviderResponse(Exception):
    """The call ended without an answer: it may or may not have had its effect. Ask again with the same key."""


class PaymentProvider(Protocol):
    """Every call repeats: a key that is known is answered with what was stored for it. Any exception means that nothing
    is known.
    """

    async def capture(self, key: str, reference: str, amount: Money, token: str) -> CaptureSuccess | CaptureDecline:
        """Charge. `reference` is our name for the order."""

    async def refund(self, key: str, reference: str, charge: str, amount: Money) -> None:
        """Give back a charge."""

    async def find_entry(self, key: str) -> ProviderLedgerEntry | None: ...

    async def list_entries(self, reference: str) -> list[ProviderLedgerEntry]:
        """All that was done for a reference, oldest first."""

    async def list_entries_of(self, references: Sequence[str]) -> list[ProviderLedgerEntry]:
        """All that was done for each of these references."""

    async def list_statement(self, after: tuple[datetime, str], limit: int) -> list[ProviderLedgerEntry]:
        """What was done after a position (time, key), whatever for, oldest first. An entry may appear a little behind
        ones that are listed already.
        """
