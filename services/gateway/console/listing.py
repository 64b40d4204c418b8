"""Lists of the API on pages of the console: filters from the address, page after page by its cursor, and what is said
of filters that the API refuses. `templates/lists.html` shows the same.
"""

from collections.abc import Mapping
from urllib.parse import urlencode

from services.gateway.console.api_client import ApiRefused
from services.gateway.console.page import PageRequest, View


def read_filters(request: PageRequest, *names: str) -> dict[str, str]:
    return {name: request.query.get(name, "").strip() for name in names}


def build_url(path: str, **query: str) -> str:
    """With those parameters that are not empty."""
    given = {name: value for name, value in query.items() if value}
    return f"{path}?{urlencode(given)}" if given else path


async def load_list(
    request: PageRequest, api_path: str, page_path: str, filters: Mapping[str, str], size: int = 50
) -> View:
    """`items`, and what their page says around them. `problem`: why there are none, of filters that are not valid."""
    cursor = request.query.get("cursor", "")
    view: View = {
        "items": [],
        "filters": filters,
        "is_filtered": any(filters.values()),
        "is_first_page": not cursor,
        "next_url": "",
        "here": build_url(page_path, **filters, cursor=cursor),
        "problem": "",
    }
    try:
        page = await request.api.get(api_path, {**filters, "cursor": cursor, "limit": size})
    except ApiRefused as refused:
        if refused.status not in (400, 404, 422):
            raise
        return view | {"problem": f"These filters are not valid: {refused}."}
    next_url = build_url(page_path, **filters, cursor=page["next_cursor"]) if page["next_cursor"] else ""
    return view | {"items": page["items"], "next_url": next_url}
