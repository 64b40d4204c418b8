"""Reads the metrics that a process keeps, and how fast they rise.

Nothing is measured until somebody asks: the rates are those between two questions, 1 to 30 seconds apart.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from caravan.status.schemas import Flow
from caravan.telemetry import metrics

LEAST_SECONDS = 1.0
"""A rate over less than this says little."""
USUAL_SECONDS = 10.0
"""The rates are over this long where somebody asks all the time."""
MOST_SECONDS = 30.0
"""What was read longer ago says nothing about now."""

Labels = tuple[str, ...]
Series = Mapping[Labels, float]
_COUNTERS = (metrics.MESSAGES_HANDLED, metrics.MESSAGES_PUBLISHED, metrics.CACHE_REQUESTS)


def read_series(metric: Counter | Gauge) -> dict[Labels, float]:
    """By label values. Not by `collect()`, which writes out every sample: 10 ms for 150 series of a histogram."""
    children: Mapping[Any, Any] = metric._metrics.copy()
    return {labels: child._value.get() for labels, child in children.items()}


def read_counts(metric: Histogram) -> dict[Labels, tuple[float, float]]:
    """How many observations there were, and their sum."""
    children: Mapping[Any, Any] = metric._metrics.copy()
    return {
        labels: (sum(bucket.get() for bucket in child._buckets), child._sum.get()) for labels, child in children.items()
    }


@dataclass(frozen=True, slots=True)
class Sample:
    """What the counters said at a time. `requests`: how many, and their seconds, by service and whether they failed."""

    read_at: float
    counters: Mapping[str, Series]
    requests: Mapping[tuple[str, bool], tuple[float, float]]

    @classmethod
    def read(cls, now: float) -> "Sample":
        requests: dict[tuple[str, bool], tuple[float, float]] = {}
        for (service, _, _, status), (count, seconds) in read_counts(metrics.HTTP_DURATION).items():
            key = service, status >= "500"
            known_count, known_seconds = requests.get(key, (0.0, 0.0))
            requests[key] = known_count + count, known_seconds + seconds
        return cls(now, {counter._name: read_series(counter) for counter in _COUNTERS}, requests)


@dataclass(frozen=True, slots=True)
class Rates:
    """The counters as they are, and as they were at the begin of the window."""

    current: Sample
    previous: Sample | None

    @property
    def window_seconds(self) -> float | None:
        return None if self.previous is None else self.current.read_at - self.previous.read_at

    def get_flow(self, counter: Counter, *labels: str) -> Flow:
        total = self.current.counters[counter._name].get(labels, 0.0)
        if self.previous is None:
            return Flow(total=total)
        return self._make_flow(total, self.previous.counters[counter._name].get(labels, 0.0))

    def get_request_flow(self, service: str, *, has_failed: bool) -> Flow:
        total, _ = self.current.requests.get((service, has_failed), (0.0, 0.0))
        if self.previous is None:
            return Flow(total=total)
        return self._make_flow(total, self.previous.requests.get((service, has_failed), (0.0, 0.0))[0])

    def compute_mean_seconds(self, service: str) -> float | None:
        """Of the requests within the window."""
        if self.previous is None:
            return None
        count = seconds = 0.0
        for key in ((service, False), (service, True)):
            now, before = self.current.requests.get(key, (0.0, 0.0)), self.previous.requests.get(key, (0.0, 0.0))
            count, seconds = count + now[0] - before[0], seconds + now[1] - before[1]
        return round(seconds / count, 6) if count else None

    def _make_flow(self, total: float, before: float) -> Flow:
        assert self.window_seconds is not None
        return Flow(total=total, per_second=round((total - before) / self.window_seconds, 3))


class RateSampler:
    """One for a process: what was read for one service is there for all that are asked at the same time."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._samples: deque[Sample] = deque()

    def read_rates(self) -> Rates:
        now = self._now()
        if not self._samples or now - self._samples[-1].read_at >= LEAST_SECONDS / 2:
            self._samples.append(Sample.read(now))
        while now - self._samples[0].read_at > MOST_SECONDS or (
            len(self._samples) > 1 and now - self._samples[1].read_at >= USUAL_SECONDS
        ):
            self._samples.popleft()
        current, first = self._samples[-1], self._samples[0]
        return Rates(current, first if current.read_at - first.read_at >= LEAST_SECONDS else None)
