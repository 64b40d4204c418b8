"""Queries join what several services know, with the rights that the caller has there."""

import asyncio

from caravan.clock import new_id
from tests.services.gateway.graphql.graph_case import GraphCase, Json
from tests.support.shop import wait_until

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

TIMELINE = """query($id: UUID!, $from: DateTime) {
  orderTimeline(orderId: $id, from: $from) {
    items(first: 500) {
      id source kind subject causalTime cause state deliveries(first: 5) { consumer deliveries effects }
    }
    partial { source reason }
    difference { changes { subject field before after } }
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


async def test_an_order_comes_with_its_timeline(graph: GraphCase) -> None:
    who, other = await graph.program.register_customer(), await graph.program.register_customer()
    placed = (await graph.program.place_order(who, await graph.program.create_product(stock=1))).json()["id"]
    await graph.program.wait_for_status(who, placed, "delivered")
    first: list[Json] = []

    async def is_equal() -> bool:
        """What is still under way, such as mails, may come between the two answers."""
        by_rest = (await graph.shop.client.get(f"/v1/orders/{placed}/timeline", headers=who)).json()["items"]
        since = by_rest[0]["causal_time"]
        answer = (await graph.ask(TIMELINE, who, id=placed, **{"from": since}))["orderTimeline"]
        first[:] = [answer]
        keys = [(item["id"], item["causal_time"], item["cause"], item["state"]) for item in by_rest]
        return keys == [(item["id"], item["causalTime"], item["cause"], item["state"]) for item in answer["items"]]

    await wait_until(is_equal, seconds=20)
    (timeline,) = first
    assert timeline["partial"] == []
    assert ("order", "status", "delivered") in [
        (change["subject"], change["field"], change["after"]) for change in timeline["difference"]["changes"]
    ]
    for headers, order_id in ((other, placed), (who, str(new_id()))):
        answer = (await graph.post(TIMELINE, headers, id=order_id)).json()
        assert answer["data"] == {"orderTimeline": None}
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["NOT_FOUND"]
