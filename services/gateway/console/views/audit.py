"""The audit log: who did what to what, with its filters."""

from typing import Any
from urllib.parse import urlencode

import orjson

from caravan.money import format_amount
from services.gateway.console.api_client import ApiRefused
from services.gateway.console.page import PageRequest, View

PATH = "/console/audit"
PAGE_SIZE = 50
FILTERS = ("actor", "action", "target", "from", "to")


async def load_audit(request: PageRequest) -> View:
    filters = {name: request.query.get(name, "").strip() for name in FILTERS}
    cursor = request.query.get("cursor", "")
    view: View = {"filters": filters, "is_filtered": any(filters.values()), "is_first_page": not cursor}
    try:
        page = await request.api.get("/v1/audit", {**filters, "cursor": cursor, "limit": PAGE_SIZE})
    except ApiRefused as refused:
        if refused.status not in (400, 422):
            raise
        return {**view, "records": [], "next_url": "", "problem": str(refused)}
    given = {name: value for name, value in filters.items() if value}
    records = [
        {
            **record,
            "details": {name: _format_detail(value) for name, value in record["details"].items()},
            "links": {name: _build_url(given, name, record[name]) for name in ("actor", "action", "target")},
        }
        for record in page["items"]
    ]
    next_query = urlencode({**given, "cursor": page["next_cursor"] or ""})
    return {
        **view,
        "records": records,
        "next_url": f"{PATH}?{next_query}" if page["next_cursor"] else "",
        "problem": "",
    }


def _format_detail(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"amount", "currency"}:
        return f"{format_amount(value['amount'], value['currency'])} {value['currency']}"
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _build_url(given: dict[str, str], name: str, value: str) -> str:
    """The same filters and this one."""
    return f"{PATH}?{urlencode({**given, name: value})}"
