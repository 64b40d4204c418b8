"""The rows of an order's timeline as its page shows them: one for each item, with the pauses between them."""

import re
from datetime import datetime
from typing import Any

import orjson

from services.gateway.console.rendering import format_money_text

GROUPS = {
    "order": ("Order", ("events", "saga")),
    "messages": ("Messages", ("topics", "queues")),
    "money": ("Money", ("payments", "provider", "documents", "jobs")),
    "stock": ("Stock", ("reservations", "stock")),
    "parcel": ("Parcel", ("shipments", "carrier")),
    "mails": ("Mails", ("mails",)),
    "people": ("People", ("audit",)),
}
GROUP_BY_SOURCE = {source: name for name, (_, sources) in GROUPS.items() for source in sources}
PAUSE_SECONDS = 1.0
"""Longer ones are a line of their own, so that what happened close together stays readable."""
HIDDEN_DETAILS = frozenset(
    {"order_id", "user_id", "lines", "channel", "placed_at", "email", "customer_name", "shipping_address"}
)
MAX_DETAILS = 8
MAX_VALUE_LENGTH = 120


def build_rows(items: list[dict[str, Any]], group: str) -> list[dict[str, Any]]:
    """`group`: only what belongs to it; an unknown one is none."""
    numbers = {item["id"]: index for index, item in enumerate(items, 1)}
    titles = {item["id"]: format_title(item["kind"], item["source"]) for item in items}
    began_at = _read_time(items[0]["causal_time"]) if items else None
    rows: list[dict[str, Any]] = []
    previous: datetime | None = None
    for item in items:
        if group in GROUPS and GROUP_BY_SOURCE.get(item["source"]) != group:
            continue
        time = _read_time(item["causal_time"])
        pause = (time - previous).total_seconds() if previous else 0.0
        previous = time
        assert began_at is not None
        rows.append(
            {
                "number": numbers[item["id"]],
                "pause": f"{pause:.1f} s later" if pause >= PAUSE_SECONDS else "",
                "offset": format_offset((time - began_at).total_seconds()),
                "time": item["causal_time"],
                "title": titles[item["id"]],
                "source": item["source"],
                "group": GROUP_BY_SOURCE.get(item["source"], "people"),
                "cause": numbers.get(item["cause"]),
                "cause_title": titles.get(item["cause"], ""),
                "actor": item["actor"] or "",
                "trace_id": item["trace_id"] or "",
                "channel": item["details"].get("channel", ""),
                "state": item["state"].get("status") or item["state"].get("state") or "",
                "details": _list_details(item["details"]),
                "deliveries": item["deliveries"],
                "is_repeated": any(delivery["deliveries"] > 1 for delivery in item["deliveries"]),
            }
        )
    return rows


def format_title(kind: str, source: str) -> str:
    """`inventory.InventoryReserved` and `capture_called` as people say it. The owner of a message is left out."""
    name = kind.rpartition(".")[2] if source in GROUPS["messages"][1] else kind
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[._]", " ", name).lower()
    return words[:1].upper() + words[1:]


def format_offset(seconds: float) -> str:
    """Since the order began: `+0.032 s`, `+4.2 s`, `+2 min 5 s`."""
    if seconds < 1:
        return f"+{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"+{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"+{days} d {hours} h"
    return f"+{hours} h {minutes} min" if hours else f"+{minutes} min {rest} s"


def _list_details(details: dict[str, Any]) -> list[tuple[str, str]]:
    shown = [
        (name, _format_value(value))
        for name, value in details.items()
        if name not in HIDDEN_DETAILS and value not in (None, "", [], {})
    ]
    return shown[:MAX_DETAILS]


def _format_value(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"amount", "currency"}:
        return format_money_text(value)
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= MAX_VALUE_LENGTH else text[: MAX_VALUE_LENGTH - 1] + "…"


def _read_time(text: str) -> datetime:
    return datetime.fromisoformat(text)
