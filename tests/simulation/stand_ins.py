"""What stands around the services in a simulation: the process that dies, the log, the clock, the bus, the jobs,
and the provider of payments.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from caravan.jobs import JobRequest
from caravan.messages import OutgoingMessage
from caravan.money import Money
from services.payments.providers.protocol import CaptureDecline, CaptureSuccess, NoProviderResponse
from services.payments.providers.simulated import SimulatedProvider

START = datetime(2026, 1, 5, 9, tzinfo=UTC)


class SimulatedCrash(ConnectionError):
    """The process died here: what was not committed is gone, what was not acknowledged comes again."""


class Crashes:
    """Stands for `failpoint.hit`: at the armed point the work ends, as if the process had died."""

    def __init__(self) -> None:
        self.armed = ""
        self.count = 0

    def hit(self, name: str) -> None:
        if name == self.armed:
            self.count += 1
            raise SimulatedCrash(name)


class InboxLog:
    """Stands for the log of inboxes: what they had to handle again, and why."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str, **fields: Any) -> None:
        self.lines.append(f"{text}: {fields}")

    warning = info


class FakeClock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class SimulatedBus:
    """Takes what relays publish. The driver decides when which reader gets it."""

    def __init__(self) -> None:
        self._messages: list[OutgoingMessage] = []

    async def publish(self, messages: Sequence[OutgoingMessage]) -> None:
        self._messages += messages

    def take(self) -> list[OutgoingMessage]:
        taken, self._messages = self._messages, []
        return taken


class SimulatedJobs:
    """Takes the jobs that payments asks for; those of other services only say that there is work."""

    def __init__(self) -> None:
        self._requests: list[JobRequest] = []

    def enqueue_soon(self, name: str, request: JobRequest | None = None) -> None:
        if request is not None:
            self._requests.append(request)

    def take(self) -> list[JobRequest]:
        taken, self._requests = self._requests, []
        return taken


class ProviderMood(Protocol):
    def choose_failure(self, reference: str, call: str) -> str:
        """What goes wrong with a call: "" for nothing, "unreachable", or "no answer" after its effect."""


class MoodyProvider(SimulatedProvider):
    """The simulated provider, whose calls fail before or after their effect as each schedule says."""

    mood: ProviderMood | None = None

    async def capture(self, key: str, reference: str, amount: Money, token: str) -> CaptureSuccess | CaptureDecline:
        failure = self._choose_failure(reference, "capture")
        answer = await super().capture(key, reference, amount, token)
        _lose_answer(failure)
        return answer

    async def refund(self, key: str, reference: str, charge: str, amount: Money) -> None:
        failure = self._choose_failure(reference, "refund")
        await super().refund(key, reference, charge, amount)
        _lose_answer(failure)

    def _choose_failure(self, reference: str, call: str) -> str:
        failure = self.mood.choose_failure(reference, call) if self.mood else ""
        if failure == "unreachable":
            raise NoProviderResponse("the provider is unreachable")
        return failure


def _lose_answer(failure: str) -> None:
    if failure:
        raise NoProviderResponse("the provider's answer was lost")
