"""Circuit breaker and retry budget: what keeps a failing dependency from being asked again and again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from caravan.snapshot import CircuitBreaker

State = Literal["closed", "half-open", "open"]


@dataclass(slots=True)
class Breaker:
    """Opens after `consecutive` failures, or when at least half of `minimum` or more calls within `window` seconds failed; then answers at once for
    `open_for` seconds, lets `probes` calls through, and closes when they succeed. What counts as a failure, `caravan.faults` says."""

    time: Callable[[], float]
    window: float = 10.0
    minimum: int = 20
    ratio: float = 0.5
    consecutive: int = 5
    open_for: float = 5.0
    probes: int = 3
    state: State = "closed"
    changed: Callable[[State], None] = lambda _: None
    _answered: float = float("-inf")
    _started: float = 0.0
    _calls: int = 0
    _failures: int = 0
    _in_a_row: int = 0
    _opened: float = 0.0
    _probing: int = 0
    _good: int = 0

    def follow(self, rules: CircuitBreaker) -> None:
        """Take new settings; what was counted stays."""
        self.window, self.minimum, self.ratio = rules.window, rules.min_requests, rules.failure_ratio
        self.consecutive, self.open_for, self.probes = rules.consecutive_failures, rules.open_for, rules.half_open_probes

    def allow(self) -> bool:
        """Whether a call may be made now. Each allowed call must be followed by `succeeded`, `failed` or `gave_up`."""
        if self.state == "open" and self.time() - self._opened >= self.open_for:
            self._become("half-open")
            self._probing = self._good = 0
        if self.state == "half-open":
            if self._probing >= self.probes:
                return False
            self._probing += 1
        return self.state != "open"

    def book(self, failed: bool | None) -> None:
        """How a call ended; None: nothing can be said."""
        if failed is None:
            self.gave_up()
        else:
            (self.failed if failed else self.succeeded)()

    def silent_since(self, since: float) -> bool | None:
        """Whether one that did not answer a call of `since` in time has failed: True when it answered nobody else meanwhile, else None."""
        return True if self._answered < since else None

    def succeeded(self) -> None:
        self._in_a_row = 0
        self._answered = self.time()
        if self.state == "half-open":
            self._good += 1
            if self._good >= self.probes:
                self._become("closed")
                self._calls = self._failures = 0
            return
        self._count(0)

    def failed(self) -> None:
        self._in_a_row += 1
        if self.state == "half-open":
            self._open()
            return
        self._count(1)
        if self._in_a_row >= self.consecutive or (self._calls >= self.minimum and self._failures >= self.ratio * self._calls):
            self._open()

    def gave_up(self) -> None:
        """There was no outcome, such as when the caller has gone: a probe's place is free again."""
        if self.state == "half-open" and self._probing:
            self._probing -= 1

    def _count(self, failure: int) -> None:
        now = self.time()
        if now - self._started > self.window:
            self._started, self._calls, self._failures = now, 0, 0
        self._calls += 1
        self._failures += failure

    def _open(self) -> None:
        self._opened = self.time()
        self._become("open")

    def _become(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self.changed(state)


@dataclass(slots=True)
class RetryBudget:
    """Retries may add at most `ratio` to the load, beyond a small reserve for quiet times."""

    ratio: float = 0.2
    reserve: float = 3.0
    _tokens: float = field(default=3.0)

    def called(self) -> None:
        self._tokens = min(self._tokens + self.ratio, 10.0 + self.reserve)

    def take(self) -> bool:
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
