"""Products with their stock, and the account of one product's stock: its balance and its ledger."""

import asyncio
from typing import Any
from urllib.parse import quote, urlencode

from services.gateway.console.api_client import ApiClient, ApiRefused, fill_path
from services.gateway.console.page import PageRequest, View

PATH = "/console/products"
PAGE_SIZE = 25
LEDGER_SIZE = 50
LOW_STOCK = 5
"""So few are worth a look."""
MOVEMENT_WORDS = {
    "receive": "received",
    "adjust": "adjusted",
    "count": "counted",
    "return": "came back",
    "reserve": "reserved",
    "release": "released",
    "ship": "shipped",
}


async def load_products(request: PageRequest) -> View:
    filters = {name: request.query.get(name, "").strip() for name in ("search", "category")}
    cursor = request.query.get("cursor", "")
    view: View = {"filters": filters, "is_filtered": any(filters.values()), "is_first_page": not cursor}
    try:
        page, categories = await asyncio.gather(
            request.api.get("/v1/products", {**filters, "cursor": cursor, "limit": PAGE_SIZE}),
            request.api.get("/v1/categories", {"limit": 100}),
        )
    except ApiRefused as refused:
        if refused.status not in (400, 422):
            raise
        return {**view, "products": [], "categories": [], "next_url": "", "problem": str(refused), "low": LOW_STOCK}
    stocks = await asyncio.gather(*(_read_stock(request.api, product["sku"]) for product in page["items"]))
    products = [
        {**product, "stock": stock, "url": build_product_url(product["sku"])}
        for product, stock in zip(page["items"], stocks, strict=True)
    ]
    query = {name: value for name, value in filters.items() if value} | {"cursor": page["next_cursor"] or ""}
    return {
        **view,
        "products": products,
        "categories": [category["name"] for category in categories["items"]],
        "next_url": f"{PATH}?{urlencode(query)}" if page["next_cursor"] else "",
        "problem": "",
        "low": LOW_STOCK,
    }


def build_product_url(sku: str) -> str:
    return f"{PATH}/{quote(sku, safe='')}"


async def _read_stock(api: ApiClient, sku: str) -> dict[str, Any] | None:
    """None where inventory knows nothing of it, or can't be asked."""
    try:
        stock: dict[str, Any] = await api.get(fill_path("/v1/stock/{sku}", sku=sku))
    except ApiRefused:
        return None
    return stock


async def load_product(request: PageRequest) -> View:
    sku, cursor = request.path["sku"], request.query.get("cursor", "")
    product, balance, ledger = await asyncio.gather(
        request.api.get(fill_path("/v1/products/{sku}", sku=sku)),
        _read_or_none(request.api, fill_path("/v1/stock/{sku}/balance", sku=sku), {}),
        _read_or_none(
            request.api, fill_path("/v1/stock/{sku}/movements", sku=sku), {"cursor": cursor, "limit": LEDGER_SIZE}
        ),
    )
    next_cursor = ledger["next_cursor"] if ledger else None
    return {
        "product": product,
        "balance": balance,
        "movements": ledger["items"] if ledger else [],
        "words": MOVEMENT_WORDS,
        "is_first_page": not cursor,
        "next_url": f"{build_product_url(sku)}?{urlencode({'cursor': next_cursor})}#ledger" if next_cursor else "",
        "first_url": f"{build_product_url(sku)}#ledger",
    }


async def _read_or_none(api: ApiClient, path: str, query: dict[str, str | int | None]) -> Any:
    """None for a product of which nothing was ever received."""
    try:
        return await api.get(path, query)
    except ApiRefused as refused:
        if refused.status != 404:
            raise
        return None
