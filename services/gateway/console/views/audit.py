"""The audit log: who did what to what, with its filters."""

from typing import Any

import orjson

from caravan.money import format_amount
from services.gateway.console.listing import build_url, load_list, read_filters
from services.gateway.console.page import PageRequest, View

PATH = "/console/audit"
LINKED = ("actor", "action", "target")
"""What of a record leads to all records that have it, within the same filters."""


async def load_audit(request: PageRequest) -> View:
    filters = read_filters(request, "actor", "action", "target", "from", "to")
    view = await load_list(request, "/v1/audit", PATH, filters)
    records = [
        {
            **record,
            "details": {name: _format_detail(value) for name, value in record["details"].items()},
            "links": {name: build_url(PATH, **{**filters, name: record[name]}) for name in LINKED},
        }
        for record in view["items"]
    ]
    return {**view, "items": records}


def _format_detail(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"amount", "currency"}:
        return f"{format_amount(value['amount'], value['currency'])} {value['currency']}"
    return value if isinstance(value, str) else orjson.dumps(value).decode()
