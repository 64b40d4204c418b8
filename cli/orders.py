"""`caravan orders`: the timeline of an order in the terminal, and its fold step by step."""

from collections import Counter
from datetime import datetime
from typing import Any, Literal

import typer

from cli.api_client import ApiClient, encode_segment, run_with_client
from cli.terminal import print_fields, print_json, print_line, print_styled, print_table

STYLES = {"events": "bold", "provider": "magenta", "stock": "cyan", "mails": "green", "audit": "yellow"}
MAX_DEPTH = 12
"""So far a cause moves what follows from it to the right; deeper chains go straight down."""


def show_order(
    order_id: str, since: str | None, until: str | None, output: Literal["table", "json"], url: str | None
) -> None:
    params = {name: value for name, value in (("from", since), ("to", until)) if value is not None}
    timeline = run_with_client(
        url, lambda shop: shop.fetch_json(f"/v1/orders/{encode_segment(order_id)}/timeline", **params)
    )
    if output == "json":
        print_json(timeline)
    else:
        _print_timeline(timeline)
    raise typer.Exit(1 if timeline["partial"] else 0)


def _print_timeline(timeline: dict[str, Any]) -> None:
    items = timeline["items"]
    began_at = datetime.fromisoformat(items[0]["causal_time"]) if items else None
    depths = _measure_depths(items)
    width = max((len(item["source"]) for item in items), default=0)
    lines = []
    for item in items:
        assert began_at is not None
        seconds = (datetime.fromisoformat(item["causal_time"]) - began_at).total_seconds()
        indent = "  " * depths[item["id"]]
        lines.append(
            [
                (f"{f'+{seconds:,.3f} s':>12}  ", "dim"),
                (f"{item['source']:<{width}}  ", "dim"),
                (f"{indent}{item['kind']}", STYLES.get(item["source"], "")),
                (f"  {_describe_item(item)}", "dim"),
            ]
        )
    print_styled(*lines)
    print_line()
    counts = Counter(item["source"] for item in items)
    print_fields([("sources", ", ".join(f"{count} {source}" for source, count in sorted(counts.items())))])
    for missing in timeline["partial"]:
        before = f", before {missing['before'][:19]}" if missing["before"] else ""
        print_line(f"missing: {missing['source']} of {missing['service']}{before}: {missing['reason']}", style="red")
    if timeline["difference"]:
        changes = timeline["difference"]["changes"]
        print_table(
            "what changed",
            ("subject", "field", "before", "after"),
            [(each["subject"], each["field"], _format(each["before"]), _format(each["after"])) for each in changes],
        )


def _measure_depths(items: list[dict[str, Any]]) -> dict[str, int]:
    """How far right each item stands: one further than its cause."""
    depths: dict[str, int] = {}
    for item in items:
        depths[item["id"]] = min(depths.get(item["cause"], -1) + 1, MAX_DEPTH)
    return depths


def _describe_item(item: dict[str, Any]) -> str:
    parts = []
    if item["state"]:
        parts.append(", ".join(f"{name} {_format(value)}" for name, value in item["state"].items() if value))
    details = item["details"]
    if "key" in details:
        parts.append(f"key {details['key']}")
    if details.get("calls"):
        parts.append(
            f"called {details['calls']}×" + (f", effect {details['effects']}×" if "effects" in details else "")
        )
    if details.get("reason"):
        parts.append(str(details["reason"]))
    parts += _describe_deliveries(item["deliveries"])
    if item["actor"] and item["source"] in ("events", "audit"):
        parts.append(f"by {item['actor']}")
    return "; ".join(part for part in parts if part)


def _describe_deliveries(deliveries: list[dict[str, Any]]) -> list[str]:
    """Consumers that got a message equally often stand together."""
    consumers: dict[str, list[str]] = {}
    for each in deliveries:
        consumers.setdefault(f"delivered {each['deliveries']}×, effect {each['effects']}×", []).append(each["consumer"])
    return [f"{counts}: {', '.join(names)}" for counts, names in consumers.items()]


def _format(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"amount", "currency"}:
        return f"{value['amount']} {value['currency']}"
    return "-" if value is None else str(value)


def replay_order(order_id: str, url: str | None) -> None:
    steps, current = run_with_client(url, lambda shop: _fold_history(shop, order_id))
    before: dict[str, Any] = {}
    for entry, document in steps:
        print_line(
            f"{entry['version']}  {entry['type']}  {entry['time'][:19]}  by {entry['actor'] or '-'}", style="bold"
        )
        print_fields(
            [
                (f"    {name}", f"{_format(before.get(name))} → {_format(value)}")
                for name, value in document.items()
                if before.get(name) != value
            ]
        )
        before = document
    differing = sorted(name for name, value in before.items() if current.get(name) != value)
    if differing:
        print_line(f"the read side DIFFERS from the fold in {', '.join(differing)}", style="red")
        print_line("`caravan projections rebuild order_summary` makes it anew from the events")
    else:
        print_line(f"{len(steps)} events; the read side is equal to their fold")
    raise typer.Exit(1 if differing else 0)


async def _fold_history(client: ApiClient, order_id: str) -> tuple[list[tuple[dict[str, Any], dict[str, Any]]], Any]:
    """Each event with the order as it was after it, and the order as the read side has it. Nothing is written."""
    path = f"/v1/orders/{encode_segment(order_id)}"
    entries = (await client.fetch_json(f"{path}/history"))["items"]
    documents = [await client.fetch_json(path, version=entry["version"]) for entry in entries]
    current = await client.fetch_json(path, min_version=entries[-1]["version"])
    if current["version"] > entries[-1]["version"]:  # it has moved on meanwhile: compare the two at one version
        return await _fold_history(client, order_id)
    return list(zip(entries, documents, strict=True)), current
