"""One schedule: a seed, its few orders for one scarce product, and every decision about them, drawn from the seed
alone: what is delivered when, twice or late, what fails, what the provider answers, who cancels.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from caravan.bus import HandlingResult, Result
from caravan.jobs import JobRequest
from caravan.messages import OutgoingMessage

TOKENS = ("tok_ok", "tok_ok", "tok_ok", "tok_timeout_charged", "tok_flaky", "tok_declined")
MAX_HISTORY = 40


def build_order_id(run: int, seed: int, number: int) -> UUID:
    """Ids of one schedule stand in the order of its orders, in every run."""
    return _build_id((run << 104) | (seed << 80) | (number + 1))


def _build_id(number: int) -> UUID:
    """With the bits that make it a UUIDv7."""
    return UUID(int=number | (7 << 76) | (1 << 63))


@dataclass(slots=True)
class Order:
    number: int
    order_id: UUID
    user_id: UUID
    quantity: int
    token: str
    accepted: bool = False
    cancelled_at: datetime | None = None
    """When its cancellation was accepted."""
    was_held: bool = True
    """Whether payments could be told of the cancellation before it was accepted."""


@dataclass(slots=True)
class Waiting:
    """A message that a reader has not acknowledged."""

    message: OutgoingMessage
    order: int
    label: str
    attempt: int = 1


@dataclass(slots=True)
class Action:
    """`kind`: place, cancel, receive or adjust."""

    kind: str
    order: Order | None = None
    quantity: int = 0
    unavailable: frozenset[str] = frozenset()


@dataclass
class Schedule:
    seed: int
    run: int
    reached: Counter[str]
    tick: int = 0
    log: list[str] = field(default_factory=list)
    waiting: dict[str, list[Waiting]] = field(default_factory=lambda: defaultdict(list))
    sent: dict[str, dict[UUID, str]] = field(default_factory=lambda: defaultdict(dict))
    """By reader, the messages that must reach it, with their labels."""
    jobs: list[tuple[int, datetime, JobRequest]] = field(default_factory=list)
    short: dict[UUID, int] = field(default_factory=dict)
    """By message of the audit log: pieces that left without being in the books."""
    violations: list[str] = field(default_factory=list)
    is_calm: bool = False

    def __post_init__(self) -> None:
        self.chance = chance = random.Random(f"schedule {self.seed}")
        self.sku = f"R{self.run}S{self.seed}"
        self.stock = chance.randint(1, 6)
        self.moved = 0
        """What staff received less what they took away."""
        self.pace = chance.uniform(0.4, 1.0)
        self.is_shuffled = chance.random() < 0.4
        self.failing = chance.choice((0.0, 0.03, 0.1))
        self.repeating = chance.choice((0.0, 0.05, 0.2))
        self.provider_failing = chance.choice((0.0, 0.1, 0.4))
        self.cancelling = chance.choice((0.0, 0.03, 0.1))
        self.orders = [
            Order(
                number,
                build_order_id(self.run, self.seed, number),
                _build_id(self.seed + 1),
                chance.choice((1, 1, 2)),
                chance.choice(TOKENS),
            )
            for number in range(chance.randint(1, 4))
        ]
        self._moods = [random.Random(f"provider {self.seed} {order.number}") for order in self.orders]
        self._calls: list[list[str]] = [[] for _ in self.orders]
        self._history: list[tuple[str, Waiting]] = []

    def note(self, text: str) -> None:
        self.log.append(f"{self.tick:3} {text}")

    def choose_actions(self) -> list[Action]:
        """What customers and staff do in this tick."""
        actions: list[Action] = []
        for order in self.orders:
            if not order.accepted:
                if self.is_calm or self.chance.random() < 0.3:
                    silent = frozenset({"inventory"} if self.chance.random() < 0.7 else ())
                    actions.append(Action("place", order, unavailable=silent))
                    break
            elif not self.is_calm and order.cancelled_at is None and self.chance.random() < self.cancelling:
                silent = frozenset({"payments"} if self.chance.random() < 0.1 else ())
                actions.append(Action("cancel", order, unavailable=silent))
        if not self.is_calm and self.chance.random() < 0.02:
            actions.append(Action(self.chance.choice(("receive", "adjust")), quantity=self.chance.randint(1, 2)))
        return actions

    def enqueue(self, reader: str, message: OutgoingMessage, order: int, label: str) -> None:
        self.sent[reader][message.id] = label
        self.waiting[reader].append(Waiting(message, order, label))

    def choose_deliveries(self, reader: str) -> tuple[list[Waiting], Waiting | None]:
        """What this reader gets now, in this order, and whose handling fails."""
        queue = self.waiting[reader]
        if self.is_calm or not queue:
            return list(queue), None
        candidates = self.chance.sample(queue, len(queue)) if self.is_shuffled else queue
        picks: list[Waiting] = []
        held: set[int] = set()
        for waiting in candidates:
            if waiting.order in held:
                continue
            if self.chance.random() < self.pace:
                picks.append(waiting)
            elif not self.is_shuffled:
                held.add(waiting.order)
        if not picks:
            return [], None
        if self.chance.random() < self.repeating:
            picks.append(self.chance.choice(picks))
        return picks, self.chance.choice(picks) if self.chance.random() < self.failing else None

    def settle(self, reader: str, picks: Sequence[Waiting], results: Sequence[HandlingResult]) -> None:
        """What is done is acknowledged, but for acknowledgements that are lost; the rest stays."""
        worst: dict[int, Result] = {}
        for waiting, result in zip(picks, results, strict=True):
            if result.result is not Result.DONE:
                worst.setdefault(id(waiting), result.result)
                if result.result is Result.DEAD:
                    self.violations.append(f"{reader} gave up {waiting.label} #{waiting.order}: {result.reason}")
        for waiting in {id(each): each for each in picks}.values():
            outcome = worst.get(id(waiting), Result.DONE)
            if outcome is Result.DONE and not self.is_calm and self.chance.random() < self.repeating / 2:
                self.note(f"{reader} got {waiting.label} #{waiting.order}, its acknowledgement was lost")
                continue
            self.note(f"{reader} got {waiting.label} #{waiting.order} attempt {waiting.attempt}: {outcome.value}")
            if outcome is Result.RETRY:
                waiting.attempt += 1
            elif outcome is Result.DONE:
                self.waiting[reader].remove(waiting)
                self._history = [*self._history[-MAX_HISTORY:], (reader, waiting)]

    def repeat_late(self) -> None:
        """Something that was acknowledged long ago comes once more."""
        if not self.is_calm and self._history and self.chance.random() < self.repeating:
            reader, old = self.chance.choice(self._history)
            self.waiting[reader].append(Waiting(old.message, old.order, old.label))
            self.note(f"{reader} will get {old.label} #{old.order} once more")

    def add_job(self, now: datetime, order: int, request: JobRequest) -> None:
        self.jobs.append((order, now + request.delay, request))

    def choose_job(self, now: datetime) -> JobRequest | None:
        """A job that is due; some are done twice, and the sweeper finds what no job does."""
        due = [job for job in self.jobs if job[1] <= now]
        if not due or self.chance.random() < 0.5:
            return None
        job = self.chance.choice(due)
        if self.chance.random() < 0.7:
            self.jobs.remove(job)
        return job[2]

    def choose_failure(self, order: int, call: str) -> str:
        """What the provider does with a call about one of the orders."""
        failure = ""
        if not self.is_calm:
            drawn = self._moods[order].random()
            if drawn < self.provider_failing:
                failure = "no answer" if drawn < self.provider_failing / 2 else "unreachable"
        self._calls[order].append(f"provider: {call} #{order} {failure}".rstrip())
        return failure

    def note_calls(self) -> None:
        """Calls of one tick run beside each other: they are noted in the order of the orders."""
        for calls in self._calls:
            for call in calls:
                self.note(call)
            calls.clear()

    @property
    def is_delivered(self) -> bool:
        return not any(self.waiting.values()) and all(order.accepted for order in self.orders)
