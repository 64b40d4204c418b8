"""Circuit breaker and retry budget: they keep calls and retries away from a failing dependency."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from caravan.discovery.routing_snapshot import CircuitBreaker

State = Literal["closed", "half-open", "open"]


@dataclass(slots=True)
class Breaker:
    """Opens after `consecutive` failures, or when at least half of `minimum` or more calls within `window` seconds
    failed; then answers at once for `open_for` seconds, lets `probes` calls through, and closes when they succeed. What
    counts as a failure, `caravan.fault_attribution` says.
    """

    time: Callable[[], float]
    window: float = 10.0
    minimum: int = 20
    ratio: float = 0.5
    consecutive: int = 5
    open_for: float = 5.0
    probes: int = 3
    state: State = "closed"
    on_change: Callable[[State], None] = lambda _: None
    cause: str = ""
    """Why it opened the last time."""
    _answered_at: float = float("-inf")
    _window_started_at: float = 0.0
    _calls: int = 0
    _failures: int = 0
    _consecutive_failures: int = 0
    _opened_at: float = 0.0
    _probes_in_flight: int = 0
    _probe_successes: int = 0

    def configure(self, settings: CircuitBreaker) -> None:
        """Take new settings; what was counted stays."""
        self.window, self.minimum, self.ratio = settings.window, settings.min_requests, settings.failure_ratio
        self.consecutive, self.open_for, self.probes = (
            settings.consecutive_failures,
            settings.open_for,
            settings.half_open_probes,
        )

    def allow_call(self) -> bool:
        """Whether a call may be made now. Each allowed call must be followed by `record_success`, `record_failure` or
        `record_cancelled`.
        """
        if self.state == "open" and self.time() - self._opened_at >= self.open_for:
            self._change_state("half-open")
            self._probes_in_flight = self._probe_successes = 0
        if self.state == "half-open":
            if self._probes_in_flight >= self.probes:
                return False
            self._probes_in_flight += 1
        return self.state != "open"

    @property
    def seconds_until_probe(self) -> float:
        """While it is open: how long nobody is asked."""
        return max(0.0, self._opened_at + self.open_for - self.time()) if self.state == "open" else 0.0

    def record_outcome(self, failed: bool | None) -> None:
        """How a call ended; None: unknown."""
        if failed is None:
            self.record_cancelled()
        else:
            (self.record_failure if failed else self.record_success)()

    def is_silent_since(self, since: float) -> bool | None:
        """Whether one that did not answer a call of `since` in time has failed: True when it answered nobody else
        meanwhile, else None.
        """
        return True if self._answered_at < since else None

    def record_success(self) -> None:
        self._consecutive_failures = 0
        self._answered_at = self.time()
        if self.state == "half-open":
            self._probe_successes += 1
            if self._probe_successes >= self.probes:
                self._change_state("closed")
                self._calls = self._failures = 0
            return
        self._count_call(0)

    def record_failure(self) -> None:
        self._consecutive_failures += 1
        if self.state == "half-open":
            self._open_circuit("a call that was let through to try it failed")
            return
        self._count_call(1)
        if self._consecutive_failures >= self.consecutive:
            self._open_circuit(f"{self._consecutive_failures} calls in a row failed")
        elif self._calls >= self.minimum and self._failures >= self.ratio * self._calls:
            self._open_circuit(f"{self._failures} of {self._calls} calls within {self.window:g} s failed")

    def record_cancelled(self) -> None:
        """There was no outcome, such as when the caller has gone: a probe's place is free again."""
        if self.state == "half-open" and self._probes_in_flight:
            self._probes_in_flight -= 1

    def _count_call(self, failure: int) -> None:
        now = self.time()
        if now - self._window_started_at > self.window:
            self._window_started_at, self._calls, self._failures = now, 0, 0
        self._calls += 1
        self._failures += failure

    def _open_circuit(self, cause: str) -> None:
        self._opened_at, self.cause = self.time(), cause
        self._change_state("open")

    def _change_state(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self.on_change(state)


@dataclass(slots=True)
class RetryBudget:
    """Retries may add at most `ratio` to the load, beyond a small reserve for quiet times."""

    ratio: float = 0.2
    reserve: float = 3.0
    _tokens: float = field(default=3.0)

    def record_call(self) -> None:
        self._tokens = min(self._tokens + self.ratio, 10.0 + self.reserve)

    def try_spend(self) -> bool:
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
