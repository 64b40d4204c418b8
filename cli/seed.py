"""`caravan seed`: the demo catalogue of an empty shop: a few products with stock, made through the shop's own API."""

from typing import Any

from cli.api_client import ApiClient, open_client
from cli.import_files import run_or_exit
from cli.terminal import print_line, print_note

PRODUCTS: tuple[tuple[str, str, str, int, int, dict[str, Any]], ...] = (
    ("MUG-BLUE", "Enamel mug, blue", "kitchen", 1250, 500, {"material": "enamel", "volume_ml": 350}),
    ("MUG-RED", "Enamel mug, red", "kitchen", 1250, 300, {"material": "enamel", "volume_ml": 350}),
    ("KETTLE", "Travel kettle", "kitchen", 3990, 80, {"material": "steel", "volume_ml": 900}),
    ("LANTERN", "Oil lantern", "light", 2499, 120, {"burns_hours": 20}),
    ("CANDLES", "Beeswax candles, box of six", "light", 899, 400, {"burns_hours": 6}),
    ("ROPE-10", "Hemp rope, 10 m", "tools", 1499, 150, {"length_m": 10}),
    ("KNIFE", "Folding knife", "tools", 2950, 90, {"blade_mm": 85}),
    ("BLANKET", "Wool blanket", "textiles", 7900, 60, {"size_cm": "150x200"}),
    ("CARPET-S", "Kilim, small", "textiles", 14900, 25, {"size_cm": "60x90"}),
    ("TEA-MINT", "Dried mint, 100 g", "pantry", 450, 900, {"organic": True}),
    ("DATES", "Medjool dates, 1 kg", "pantry", 1690, 350, {"organic": True}),
    ("LAST-ONE", "The last unit", "kitchen", 100, 1, {}),
)


def seed_catalogue(url: str | None, max_wait_seconds: float) -> None:
    async def fill_shop() -> str:
        async with open_client(url, print_note, connections=2, max_wait_seconds=max_wait_seconds) as client:
            return await fill_catalogue(client)

    print_line(f"catalogue: {run_or_exit(fill_shop())}")


async def fill_catalogue(client: ApiClient) -> str:
    """Fill the catalogue if it is empty; one line on what it holds."""
    if (await client.send_request("GET", "/v1/products", params={"limit": 1}, customer=None)).json()["items"]:
        return "kept as it is"
    products = [
        {
            "sku": sku,
            "name": name,
            "description": f"{name}. From the demo catalogue.",
            "category": category,
            "price": {"amount": price, "currency": "GBP"},
            "attributes": attributes,
        }
        for sku, name, category, price, _, attributes in PRODUCTS
    ]
    movements = [
        {
            "sku": sku,
            "kind": "receive",
            "quantity": stock,
            "reason": "demo catalogue",
            "reference": f"demo-catalogue-{sku}",
        }
        for sku, _, _, _, stock, _ in PRODUCTS
    ]
    # The products come last: who finds them finds their stock, and a seed that was cut off begins again.
    await client.send_request("POST", "/v1/stock/movements", body={"movements": movements}, key="demo catalogue")
    await client.send_request("PUT", "/v1/products", body={"products": products})
    return f"{len(PRODUCTS)} products with stock"
