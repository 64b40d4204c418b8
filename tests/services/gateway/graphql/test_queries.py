"""Queries join what several services know, with the rights that the caller has there."""

import asyncio

from tests.services.gateway.graphql.graph_case import GraphCase

CATALOGUE = """query Catalogue($first: Int!) {
  products(first: $first, sort: "newest") { nodes { sku name price { amount currency } stock { available } } }
}"""
ORDERS = """{
  me { email }
  orders(first: 5) {
    nodes { id status total { amount } lines { sku quantity product { name stock { available } } } }
    pageInfo { hasNextPage }
  }
}"""


async def test_products_come_with_their_stock(graph: GraphCase) -> None:
    skus = [await graph.program.create_product(stock=stock) for stock in (3, 0, 7)]
    data = await graph.ask(CATALOGUE, first=3)
    assert {item["sku"]: item["stock"]["available"] for item in data["products"]["nodes"]} == dict(
        zip(skus, (3, 0, 7), strict=True)
    )
    assert data["products"]["nodes"][0]["price"] == {"amount": 1250, "currency": "GBP"}


async def test_orders_come_with_their_lines_and_these_with_their_products(graph: GraphCase) -> None:
    who, other = await graph.program.register_customer(), await graph.program.register_customer()
    sku = await graph.program.create_product(stock=10)
    placed = [(await graph.program.place_order(who, sku, quantity=2)).json()["id"] for _ in range(2)]
    await asyncio.gather(*(graph.program.get_order(who, order_id) for order_id in placed))
    data = await graph.ask(ORDERS, who)
    assert [item["id"] for item in data["orders"]["nodes"]] == placed[::-1]
    line = data["orders"]["nodes"][0]["lines"][0]
    assert (line["sku"], line["quantity"], line["product"]["name"]) == (sku, 2, f"Thing {sku}")
    assert (await graph.ask(ORDERS, other))["orders"]["nodes"] == [], "who asks gets their own"
