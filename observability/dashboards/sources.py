"""Asks Prometheus, Loki and Jaeger what a dashboard's JSON asks them, as Grafana would."""

import re
from dataclasses import dataclass, field
from typing import Any

import httpx2

Document = dict[str, Any]
POINTS = 120
SCRAPES_IN_A_RATE = 4
LEGEND_PART = re.compile(r"\{\{(\w+)\}\}")
VARIABLE = re.compile(r"\$\{?([a-z_]+)\}?")


@dataclass(frozen=True, slots=True)
class Series:
    """`name` as the legend says; points are times and values."""

    name: str
    points: list[tuple[float, float]]
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where each kind of source answers; one without an address is not asked. `end` and `seconds` say which time."""

    addresses: dict[str, str]
    end: float
    seconds: float
    scrape_seconds: float = 15
    values: dict[str, str] = field(default_factory=dict)
    """Of a dashboard's variables, where they are not to be all there is."""

    @property
    def step(self) -> float:
        return max(self.seconds / POINTS, 1)

    def ask_panel(self, board: Document, panel: Document) -> list[Series]:
        """Lines of logs and traces are series with the text as their name."""
        kind = panel["datasource"]["type"]
        if kind not in self.addresses:
            return []
        ask = {"prometheus": self._ask_prometheus, "loki": self._ask_loki, "jaeger": self._ask_jaeger}[kind]
        return [series for target in panel["targets"] for series in ask(board, target)]

    def list_metric_names(self) -> set[str]:
        return set(self._get("prometheus", "/api/v1/label/__name__/values", {})["data"])

    def fill_variables(self, board: Document, text: str) -> str:
        values = {
            "__rate_interval": f"{self.scrape_seconds * SCRAPES_IN_A_RATE:g}s",
            "__interval": f"{self.step:g}s",
            "__range": f"{self.seconds:g}s",
            **{each["name"]: each.get("allValue") or each.get("query", "") for each in board["templating"]["list"]},
            **self.values,
        }
        return VARIABLE.sub(lambda found: values.get(found[1], found[0]), text)

    def _ask_prometheus(self, board: Document, target: Document) -> list[Series]:
        query = self.fill_variables(board, target["expr"])
        if target.get("instant"):
            answer = self._get("prometheus", "/api/v1/query", {"query": query, "time": self.end})
        else:
            times = {"start": self.end - self.seconds, "end": self.end, "step": self.step}
            answer = self._get("prometheus", "/api/v1/query_range", {"query": query, **times})
        found = []
        for result in answer["data"]["result"]:
            labels = result["metric"]
            name = target.get("legendFormat", "")
            for part in set(LEGEND_PART.findall(name)):
                name = name.replace(f"{{{{{part}}}}}", labels.get(part, ""))
            values = result.get("values") or [result["value"]]
            points = [(float(time), float(value)) for time, value in values]
            found.append(Series(name.strip(), [point for point in points if point[1] == point[1]], labels))
        return [series for series in found if series.points]

    def _ask_loki(self, board: Document, target: Document) -> list[Series]:
        query = self.fill_variables(board, target["expr"])
        times = {"start": int((self.end - self.seconds) * 1e9), "end": int(self.end * 1e9), "limit": 50}
        answer = self._get("loki", "/loki/api/v1/query_range", {"query": query, **times})
        lines = [
            Series(line[1], [(int(line[0]) / 1e9, 1.0)], stream["stream"])
            for stream in answer["data"]["result"]
            for line in stream["values"]
        ]
        return sorted(lines, key=lambda line: line.points[0])

    def _ask_jaeger(self, board: Document, target: Document) -> list[Series]:
        name, _, value = self.fill_variables(board, target["tags"]).partition("=")
        window = {"start": int((self.end - self.seconds) * 1e6), "end": int(self.end * 1e6), "limit": target["limit"]}
        service = self.fill_variables(board, target["service"])
        found = self._get("jaeger", "/api/traces", {"service": service, "tags": f'{{"{name}":"{value}"}}', **window})
        rows = []
        for trace in found.get("data") or []:
            spans = sorted(trace["spans"], key=lambda span: int(span["startTime"]))
            ends = max(span["startTime"] + span["duration"] for span in spans)
            services = {process["serviceName"] for process in trace["processes"].values()}
            labels = {
                "trace": trace["traceID"],
                "first span": spans[0]["operationName"],
                "spans": str(len(spans)),
                "services": str(len(services)),
                "seconds": f"{(ends - spans[0]['startTime']) / 1e6:.3f}",
            }
            rows.append(Series(trace["traceID"], [(spans[0]["startTime"] / 1e6, 1.0)], labels))
        return sorted(rows, key=lambda row: row.points[0])

    def _get(self, kind: str, path: str, parameters: Document) -> Any:
        response = httpx2.get(self.addresses[kind].rstrip("/") + path, params=parameters, timeout=30, trust_env=False)
        if response.status_code != 200:
            query = parameters.get("query", "")
            raise SystemExit(f"{kind} answers {response.status_code} to {query}: {response.text[:300]}")
        return response.json()
