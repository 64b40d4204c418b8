"""Orders: the list with its filters, the search, and a sample order."""

import asyncio
from uuid import UUID

from caravan.clock import new_id
from services.gateway.console.api_client import ApiClient, ApiRefused
from services.gateway.console.listing import build_url, load_list, read_filters
from services.gateway.console.page import ActionResult, PageRequest, Redirect, View

PATH = "/console/orders"
FILTERS = ("status", "user_id", "trace_id")
STATUSES = (
    "created",
    "reserved",
    "paid",
    "shipped",
    "delivered",
    "rejected",
    "payment_failed",
    "cancelled",
    "refunded",
)
SAMPLE_CARDS = {
    "tok_ok": "is charged",
    "tok_flaky": "is charged at the third attempt",
    "tok_declined": "is declined",
}
SAMPLE_ADDRESS = {
    "name": "Sample Customer",
    "street": "1 Caravan Road",
    "city": "London",
    "postcode": "N1 1AA",
    "country": "GB",
}
SAMPLE_PRODUCTS = 20


async def load_orders(request: PageRequest) -> View:
    text = request.query.get("q", "").strip()
    if text:
        return {"items": [], **_build_form(text), **await _search(request, text)}
    return {**_build_form(), **await load_list(request, "/v1/orders", PATH, read_filters(request, *FILTERS))}


def _build_form(text: str = "") -> View:
    return {"text": text, "statuses": STATUSES, "cards": SAMPLE_CARDS, "sample_key": str(new_id())}


async def _search(request: PageRequest, text: str) -> View:
    """An order's id leads to the order; an e-mail address and a trace id to the orders that have it. Returns what the
    page says of a search that leads nowhere.
    """
    problem = f"“{text[:100]}” is no order id, e-mail address or trace id."
    if "@" in text:
        problem = await _search_email(request, text)
    elif len(text) == 32 and all(sign in "0123456789abcdef" for sign in text.lower()):
        raise Redirect(build_url(PATH, trace_id=text.lower()))
    else:
        try:
            raise Redirect(f"{PATH}/{UUID(text)}")
        except ValueError:
            pass
    filters = dict.fromkeys(FILTERS, "")
    return {"filters": filters, "is_filtered": True, "is_first_page": True, "next_url": "", "problem": problem}


async def _search_email(request: PageRequest, email: str) -> str:
    """Why it leads nowhere."""
    try:
        users = (await request.api.get("/v1/users", {"email": email}))["items"]
    except ApiRefused as refused:
        if refused.status not in (403, 422):
            raise
        return "Only administrators can search by e-mail." if refused.status == 403 else "That is no e-mail address."
    if users:
        raise Redirect(build_url(PATH, user_id=users[0]["id"]))
    return f"Nobody has an account with {email[:100]}."


async def place_sample_order(request: PageRequest) -> ActionResult:
    """One of the first product that is in stock. The form's key makes a second press the same order."""
    card = request.form.get("card", "tok_ok")
    body = {
        "lines": [{"sku": await _find_product_in_stock(request.api), "quantity": 1}],
        "shipping_address": SAMPLE_ADDRESS,
        "payment": {"method": "card", "token": card if card in SAMPLE_CARDS else "tok_ok"},
    }
    key = request.form.get("key") or str(new_id())
    order = await request.api.post("/v1/orders", body, {"idempotency-key": key})
    return ActionResult(f"{PATH}/{order['id']}", "The sample order is placed. Watch it here.")


async def _find_product_in_stock(api: ApiClient) -> str:
    products = (await api.get("/v1/products", {"limit": SAMPLE_PRODUCTS}))["items"]
    stocks = await asyncio.gather(*(_read_available(api, product["sku"]) for product in products))
    available, sku = max(zip(stocks, (product["sku"] for product in products), strict=True), default=(0, ""))
    if available < 1:
        detail = "no product is in stock; receive some first, or fill the shop with `caravan seed`"
        raise ApiRefused(409, {"title": "Nothing to order", "detail": detail})
    return str(sku)


async def _read_available(api: ApiClient, sku: str) -> int:
    try:
        return int((await api.get(f"/v1/stock/{sku}"))["available"])
    except ApiRefused:
        return 0
