"""Where a page's dashboards, alerts and traces are, outside of the shop: plain links, only as configured."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

DASHBOARDS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "orders": (("Shop", "caravan-shop"),),
    "order": (("Order journey", "caravan-order-journey"),),
    "failures": (("Messaging", "caravan-messaging"),),
    "cause": (("Messaging", "caravan-messaging"),),
    "failure": (("Messaging", "caravan-messaging"),),
    "jobs": (("Jobs", "caravan-jobs"),),
    "system": (
        ("Service RED", "caravan-services"),
        ("Messaging", "caravan-messaging"),
        ("Cache", "caravan-cache"),
        ("Jobs", "caravan-jobs"),
        ("SLO", "caravan-slo"),
    ),
}
"""Of each page: titles and uids of `observability/dashboards`. The variable of one order is filled with the page's."""


@dataclass(frozen=True, slots=True)
class ObservabilityLinks:
    """The addresses of the settings; an empty one makes no links."""

    grafana_url: str
    alerts_url: str
    trace_url: str

    def list_links(self, page: str, parameters: Mapping[str, str]) -> list[tuple[str, str]]:
        """Title and address: the dashboards of a page of the console, then the alerts that fire."""
        links = []
        if self.grafana_url:
            selected = {f"var-{name}": value for name, value in parameters.items() if name == "order_id"}
            for title, uid in DASHBOARDS.get(page, ()):
                query = f"?{urlencode(selected)}" if selected else ""
                links.append((title, f"{self.grafana_url.rstrip('/')}/d/{uid}{query}"))
        if self.alerts_url and page in DASHBOARDS:
            links.append(("Alerts", self.alerts_url))
        return links

    def build_trace_url(self, trace_id: str) -> str:
        """Empty where no store of traces is configured."""
        return self.trace_url.replace("{trace_id}", quote(trace_id, safe="")) if self.trace_url and trace_id else ""


NO_LINKS = ObservabilityLinks("", "", "")
