"""The reference page of the dashboards: what each shows, its picture, and what each panel says."""

import json

from observability.dashboards.check import list_needs
from observability.dashboards.declared import ROOT, load_metrics
from observability.dashboards.grafana import render_board
from observability.dashboards.lint import list_panels
from observability.dashboards.model import Board

INTRODUCTION = """# Dashboards

`observability/dashboards/` declares them, `make docs` writes them as Grafana's JSON beside the declarations, and the
chart and the compose file hand that JSON to Grafana.
Every panel has a unit and a description, and asks only for metrics that somebody declares: a test reads each query.

- The variables at the top choose the data sources, the namespace and, where it makes a difference, the service.
- A blue mark is a deployment: a version that was not there a minute before.
- Points on lines of duration are examples: a click opens the trace, and a span of it leads to its log lines.
- Dashed lines are thresholds. An alert has its own, with a time; a line that touches one is no alert yet.

## Without Grafana

The pictures below are drawn from a running shop by a program that reads the same JSON, runs its queries against the
sources' HTTP APIs and needs no Grafana.
With the same options it says which panels have data, and ends with status 1 when one has none that should:

```bash
.venv/bin/python -m observability.dashboards --check http://127.0.0.1:9090
.venv/bin/python -m observability.dashboards --draw docs/images http://127.0.0.1:9090 --minutes 30
```

Add `--loki` and `--jaeger` with their addresses for the panels of logs and traces, and `--set order_id=...` for those
of one order.
A panel of something that is not there, such as Kafka on a laptop, says so and is no failure.

"""


def render_page(boards: tuple[Board, ...]) -> str:
    metrics = load_metrics()
    parts = [INTRODUCTION, "| dashboard | look here |\n|---|---|\n"]
    parts += [
        f"| [{board.title}](#{board.title.lower().replace(' ', '-')}) | {board.description} |\n" for board in boards
    ]
    for board in boards:
        parts.append(f"\n## {board.title}\n\n{board.description}\n\n")
        picture = f"images/dashboard-{board.name}.png"
        if (ROOT / "docs" / picture).exists():
            parts.append(f"![{board.title}](../{picture})\n\n")
        parts.append("| panel | what it shows | needs |\n|---|---|---|\n")
        for panel in list_panels(json.loads(render_board(board))):
            needs = ", ".join(sorted(list_needs(panel, metrics) - {"Prometheus"}))
            parts.append(f"| {panel['title']} | {panel['description']} | {needs} |\n")
    return "".join(parts)
