"""What `growth.py` measured: judged, as a table, and as a picture."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

MAX_ORDER_GROWTH = 1.05
MAX_SEARCH_LISTS = 2.0
Step = Mapping[str, Any]


def find_excesses(steps: Sequence[Step]) -> list[str]:
    """What passes a bound, and rounds whose books are wrong."""
    first, last = steps[0], steps[-1]
    excesses = [
        f"{name} of an order: {ratio:.3f} of the first tenth's, at most {MAX_ORDER_GROWTH}"
        for name, read in (("CPU", _read_scaled_cpu), ("statements", _read_statements))
        if (ratio := read(last) / read(first)) > MAX_ORDER_GROWTH
    ]
    excesses += [
        f"search, {name}: {ratio:.2f} lists, at most {MAX_SEARCH_LISTS:.0f}"
        for name, ratio in last["p95_ms"]["ratios"].items()
        if ratio > MAX_SEARCH_LISTS
    ]
    return excesses + [f"step {n}: {text}" for n, step in enumerate(steps, 1) for text in step["round"]["problems"]]


def _read_scaled_cpu(step: Step) -> float:
    """CPU of app and Postgres for an order, in turns of the fixed loop: the machine is not always as fast."""
    cost = step["round"]["cost_per_order"]
    milliseconds = cost["app_cpu_ms"] + cost["postgres_cpu_ms"]
    return float(milliseconds / statistics.mean(step["round"]["spin_seconds"]))


def _read_statements(step: Step) -> float:
    return float(step["round"]["cost_per_order"]["sql_statements"])


def render_markdown(result: Mapping[str, Any]) -> str:
    steps = result["steps"]
    scaled = _read_scaled_cpu(steps[0])
    columns: list[tuple[str, Callable[[Step], str]]] = [
        ("orders", lambda step: f"{step['orders']:,}"),
        ("products", lambda step: f"{step['products']:,}"),
        ("paid a second", lambda step: f"{step['round']['paid_per_second']:.0f}"),
        ("CPU ms: app", lambda step: f"{step['round']['cost_per_order']['app_cpu_ms']:.2f}"),
        ("Postgres", lambda step: f"{step['round']['cost_per_order']['postgres_cpu_ms']:.2f}"),
        ("both by the loop, first = 1", lambda step: f"{_read_scaled_cpu(step) / scaled:.3f}"),
        ("statements", lambda step: f"{_read_statements(step):.2f}"),
        ("tables MiB", lambda step: f"{sum(step['table_bytes'].values()) / 2**20:.0f}"),
        ("list p95 ms", lambda step: f"{next(iter(step['p95_ms']['lists'].values())):.2f}"),
        ("dearest search, lists", lambda step: f"{max(step['p95_ms']['ratios'].values()):.2f}"),
    ]
    excesses = find_excesses(steps)
    lines = [
        f"# Growth, {result['date'][:10]}, {result['commit']}",
        "",
        f"{result['machine']['cores']} cores, load {result['load_average'][0]:.1f} at the start; one process, without"
        " the shared cache.",
        "",
        "| " + " | ".join(name for name, _ in columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(read(step) for _, read in columns) + " |" for step in steps),
        "",
        "| read at the end | p95 ms | lists |",
        "|---|---|---|",
    ]
    reads = steps[-1]["p95_ms"]
    lines += [f"| {name} | {milliseconds:.2f} | |" for name, milliseconds in reads["lists"].items()]
    lines += [f"| search: {name} | {ms:.2f} | {reads['ratios'][name]:.2f} |" for name, ms in reads["searches"].items()]
    lines += ["", "| table | MiB at the first step | at the last |", "|---|---|---|"]
    sizes = steps[-1]["table_bytes"]
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True)[:20]:
        lines.append(f"| {name} | {steps[0]['table_bytes'].get(name, 0) / 2**20:.1f} | {sizes[name] / 2**20:.1f} |")
    lines += ["", *(f"- over its bound: {text}" for text in excesses or ())]
    return "\n".join(lines if excesses else [*lines, "All bounds are kept."]) + "\n"


def draw_growth(steps: Sequence[Step], path: Path) -> None:
    figure = Figure(figsize=(13, 8), layout="constrained")
    axes: list[Axes] = list(figure.subplots(2, 3).flat)
    orders, products = [step["orders"] for step in steps], [step["products"] for step in steps]
    costs = [step["round"]["cost_per_order"] for step in steps]
    _draw(axes[0], "Orders paid a second", "orders", orders, {"": [s["round"]["paid_per_second"] for s in steps]})
    cpu = {part: [cost[f"{part}_cpu_ms"] for cost in costs] for part in ("app", "postgres")}
    _draw(axes[1], "CPU of an order, ms", "orders", orders, cpu)
    _draw(axes[2], "SQL statements of an order", "orders", orders, {"": [_read_statements(step) for step in steps]})
    largest = sorted(steps[-1]["table_bytes"], key=steps[-1]["table_bytes"].__getitem__, reverse=True)[:8]
    sizes = {name: [step["table_bytes"].get(name, 0) / 2**20 for step in steps] for name in largest}
    _draw(axes[3], "Largest tables, MiB", "orders", orders, sizes)
    for axis, title, kind in ((axes[4], "Lists, p95 in ms", "lists"), (axes[5], "Searches, p95 in ms", "searches")):
        reads = {name: [step["p95_ms"][kind][name] for step in steps] for name in steps[0]["p95_ms"][kind]}
        _draw(axis, title, "products", products, reads)
    figure.savefig(path, format="svg", metadata={"Date": None})


def _draw(axis: Axes, title: str, label: str, counts: list[int], series: Mapping[str, list[float]]) -> None:
    for name, values in series.items():
        axis.plot(counts, values, marker=".", label=name)
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(label, fontsize=8)
    axis.set_ylim(bottom=0)
    axis.tick_params(labelsize=7)
    if len(series) > 1:
        axis.legend(fontsize=6)
