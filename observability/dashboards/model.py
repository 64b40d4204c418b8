"""What a dashboard is made of. A board of `boards/` is a value of these classes; `grafana.py` makes JSON of it."""

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["lines", "stat", "bars", "states", "table", "logs", "traces"]
Source = Literal["prometheus", "loki", "jaeger"]
SOURCES: dict[Kind, Source] = {"logs": "loki", "traces": "jaeger"}
"""Where a kind of panel asks; all others ask Prometheus."""


@dataclass(frozen=True, slots=True)
class Query:
    """`legend` names a series by its labels: `{{service}}`. `exemplars`: the points lead to the traces of examples."""

    text: str
    legend: str
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Threshold:
    """From this value on."""

    value: float
    color: Literal["green", "yellow", "orange", "red", "blue"]


@dataclass(frozen=True, slots=True)
class Panel:
    """`width` of 24. `hint`: what `unit` can't say, such as the meaning of the values of a panel of states."""

    kind: Kind
    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    width: int = 8
    height: int = 8
    thresholds: tuple[Threshold, ...] = ()
    stacked: bool = False
    maximum: float | None = None
    decimals: int | None = None
    value_names: dict[int, tuple[str, str]] = field(default_factory=dict)
    """A text and a colour for values that are codes."""
    link: tuple[str, str] | None = None
    """Title and address of where a click on a series leads."""

    @property
    def source(self) -> Source:
        return SOURCES.get(self.kind, "prometheus")


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a question that they answer."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """What the reader chooses: the values of `label` of `metric`, or, without them, a text."""

    name: str
    title: str
    metric: str = ""
    label: str = ""
    default: str = ""


NAMESPACE = Variable("namespace", "Namespace", "up", "namespace")
SERVICE = Variable("service", "Service", "http_server_request_duration_seconds_count", "service")


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard. `name` is its file's, `description` says when to look at it."""

    name: str
    title: str
    description: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = (NAMESPACE,)
    hours: int = 1

    @property
    def uid(self) -> str:
        return f"caravan-{self.name}"

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(panel for row in self.rows for panel in row.panels)
