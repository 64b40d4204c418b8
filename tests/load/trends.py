"""What the samples of a soak say: whether memory, handles and tables grow. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Point = tuple[float, float]
"""Hours since the soak began, and what was measured."""


@dataclass(frozen=True, slots=True)
class Sample:
    """`part`: between two of them every process was started anew. `processes`: what each has of `memory` (MiB),
    `handles` and `threads`; `tables`: their rows.
    """

    part: int
    at: float
    processes: Mapping[str, Mapping[str, float]]
    tables: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Bounds:
    """`memory_per_hour` in MiB for one process. In a soak of less than an hour the bound of an hour is that of all
    of it: a slope of minutes says nothing of hours. `table_share`: so much of its mean a table may grow over the soak.
    """

    warm_up_hours: float
    memory_per_hour: float = 10.0
    handles: float = 3.0
    threads: float = 3.0
    table_share: float = 0.2
    table_rows: float = 100.0
    most_rows: Mapping[str, int] = field(default_factory=dict)
    """Of what is bounded by its number: how many there may be."""


@dataclass(slots=True)
class Trend:
    """`slope` is for an hour, `growth` over all hours that were observed."""

    subject: str
    what: str
    mean: float
    slope: float
    growth: float
    bound: float | None = None

    @property
    def is_growing(self) -> bool:
        return self.bound is not None and self.growth > self.bound


@dataclass(slots=True)
class Assessment:
    hours: float = 0.0
    trends: list[Trend] = field(default_factory=list)
    never_pruned: list[str] = field(default_factory=list)
    overfull: list[str] = field(default_factory=list)

    def list_violations(self) -> list[str]:
        growing = [
            f"{trend.subject}: {trend.what} grew by {trend.growth:.1f} in {self.hours:.2f} h, of {trend.mean:.1f}; at "
            f"most {trend.bound:.1f}"
            for trend in self.trends
            if trend.is_growing
        ]
        return [
            *growing,
            *self.overfull,
            *(f"{table}: nothing was ever removed from it" for table in self.never_pruned),
        ]


def compute_slope(parts: Sequence[Sequence[Point]]) -> float:
    """By least squares, an hour. Each part has a level of its own: its processes began anew."""
    products = squares = 0.0
    for points in parts:
        if not points:
            continue
        mean_x = sum(x for x, _ in points) / len(points)
        mean_y = sum(y for _, y in points) / len(points)
        products += sum((x - mean_x) * (y - mean_y) for x, y in points)
        squares += sum((x - mean_x) ** 2 for x, _ in points)
    return products / squares if squares else 0.0


def drop_warm_up(samples: Sequence[Sample], hours: float) -> list[list[Sample]]:
    """By part, what was measured once its processes had been up for so long."""
    parts: dict[int, list[Sample]] = {}
    for sample in samples:
        parts.setdefault(sample.part, []).append(sample)
    return [[each for each in part if each.at - part[0].at >= hours] for part in parts.values()]


def assess_samples(samples: Sequence[Sample], bounded_tables: Sequence[str], bounds: Bounds) -> Assessment:
    """`bounded_tables`: those that must not grow, since what is old is removed from them."""
    parts = [part for part in drop_warm_up(samples, bounds.warm_up_hours) if len(part) > 1]
    assessment = Assessment(hours=sum(part[-1].at - part[0].at for part in parts))
    if not parts:
        return assessment
    hours = assessment.hours
    limits = {
        "memory": bounds.memory_per_hour * max(1.0, hours),
        "resident": None,
        "handles": bounds.handles,
        "threads": bounds.threads,
    }
    for name in sorted({name for part in parts for sample in part for name in sample.processes}):
        for what, bound in limits.items():
            points = [
                [(each.at, each.processes[name][what]) for each in part if name in each.processes] for part in parts
            ]
            assessment.trends.append(_make_trend(name, what, points, hours, bound))
    for table in sorted({table for part in parts for sample in part for table in sample.tables}):
        points = [[(each.at, float(each.tables[table])) for each in part if table in each.tables] for part in parts]
        trend = _make_trend(table, "rows", points, hours)
        most = max(value for part in points for _, value in part)
        if table in bounds.most_rows and most > bounds.most_rows[table]:
            assessment.overfull.append(f"{table}: {most:.0f} are kept, at most {bounds.most_rows[table]} should be")
        if table in bounded_tables:
            trend.bound = max(bounds.table_rows, bounds.table_share * trend.mean)
            if not _has_shrunk(samples, table) and trend.mean > bounds.table_rows:
                assessment.never_pruned.append(table)
        assessment.trends.append(trend)
    return assessment


def _has_shrunk(samples: Sequence[Sample], table: str) -> bool:
    counts = [sample.tables[table] for sample in samples if table in sample.tables]
    return any(later < earlier for earlier, later in pairwise(counts))


def _make_trend(
    subject: str, what: str, parts: Sequence[Sequence[Point]], hours: float, bound: float | None = None
) -> Trend:
    values = [value for points in parts for _, value in points]
    slope = compute_slope(parts)
    return Trend(subject, what, sum(values) / len(values), slope, slope * hours, bound)
