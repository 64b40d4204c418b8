"""The demo catalogue of an empty shop: a few products with stock, made through the shop's own API."""

from typing import Any

import httpx2

from caravan.migrations import derive
from caravan.runtime import Process

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


async def seed(process: Process) -> str:
    """Fill the catalogue if it is empty; one line on what it holds."""
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=process.app), base_url=process.url, timeout=30) as client:
        if (await client.get("/v1/products?limit=1")).json()["items"]:
            return "kept as it is"
        form = {"grant_type": "client_credentials", "client_id": "cli", "client_secret": derive(process.backends.secret, "client:cli")}
        token = (await client.post("/v1/auth/token", data=form)).raise_for_status().json()["access_token"]
        headers = {"authorization": f"Bearer {token}"}
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
        (await client.put("/v1/products", json={"products": products}, headers=headers)).raise_for_status()
        movements = [{"sku": sku, "kind": "receive", "quantity": stock, "reason": "demo catalogue"} for sku, _, _, _, stock, _ in PRODUCTS]
        keyed = {**headers, "Idempotency-Key": "demo catalogue"}
        (await client.post("/v1/stock/movements", json={"movements": movements}, headers=keyed)).raise_for_status()
    return f"{len(PRODUCTS)} products with stock"
