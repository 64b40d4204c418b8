"""Products with their stock, and the account of one product's stock: its balance and its ledger."""

import asyncio
from typing import Any
from urllib.parse import quote

from services.gateway.console.api_client import ApiClient, ApiRefused, fill_path
from services.gateway.console.listing import build_url, load_list, read_filters
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
    filters = read_filters(request, "search", "category")
    view, categories = await asyncio.gather(
        load_list(request, "/v1/products", PATH, filters, PAGE_SIZE),
        request.api.get("/v1/categories", {"limit": 100}),
    )
    stocks = await asyncio.gather(*(_read_stock(request.api, product["sku"]) for product in view["items"]))
    products = [
        {**product, "stock": stock, "url": build_product_url(product["sku"])}
        for product, stock in zip(view["items"], stocks, strict=True)
    ]
    names = [category["name"] for category in categories["items"]]
    return {**view, "items": products, "categories": names, "low": LOW_STOCK}


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
        "next_url": f"{build_url(build_product_url(sku), cursor=next_cursor)}#ledger" if next_cursor else "",
        "first_url": f"{build_product_url(sku)}#ledger" if cursor else "",
    }


async def _read_or_none(api: ApiClient, path: str, query: dict[str, str | int | None]) -> Any:
    """None for a product of which nothing was ever received."""
    try:
        return await api.get(path, query)
    except ApiRefused as refused:
        if refused.status != 404:
            raise
        return None
