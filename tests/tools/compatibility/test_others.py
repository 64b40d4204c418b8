"""Each rule of graph, messages, settings, metrics and problem types by a planted break, beside harmless changes."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tools.compatibility import asyncapi, graph, metrics, problems, schemas, settings

SDL = """
type Query { order(id: ID!, view: String = "short"): Order  orders(first: Int): [Order!]! }
type Order { id: ID!  status: Status!  paid: Payment }
type Card { number: String }
type Bill { number: String }
union Payment = Card | Bill
enum Status { CREATED PAID }
enum Sorting { NEWEST }
input NewOrder { sku: String!  sorting: Sorting }
type Mutation { placeOrder(input: NewOrder!): Order }
"""


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("paid: Payment", "", "field-removed Field Order.paid was removed"),
        (
            "status: Status!",
            "status: Status",
            "field-changed-kind Field Order.status changed type from Status! to Status",
        ),
        ("CREATED PAID", "CREATED", "value-removed-from-enum Enum value Status.PAID was removed"),
        ("CREATED PAID", "CREATED PAID LOST", "value-added Enum value Status.LOST was added"),
        ("Card | Bill", "Card | Bill | Order", "type-added Order was added to union type Payment"),
        ("view: String", "limit: Int! view: String", "required-arg-added"),
        ('"short"', '"long"', "default-changed"),
        ("sku: String!", "sku: String! email: String!", "required-input-field-added"),
        (', view: String = "short"', "", "arg-removed"),
    ],
)
def test_a_broken_graph(old: str, new: str, name: str) -> None:
    found = [each.name for each in graph.find_breaks(SDL, SDL.replace(old, new))]
    assert any(each.startswith(name) for each in found), found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("status: Status!", "status: Status! weight: Int"),
        ("first: Int", "first: Int after: String"),
        ("NEWEST", "NEWEST OLDEST"),
        ("sku: String!", "sku: String! email: String"),
        ("paid: Payment", "paid: Payment!"),
    ],
)
def test_a_graph_that_grew(old: str, new: str) -> None:
    assert graph.find_breaks(SDL, SDL.replace(old, new)) == []


ASYNCAPI: dict[str, Any] = {
    "channels": {
        "topic.placed": {
            "address": "placed",
            "messages": {"orders.Placed": {}},
            "bindings": {"kafka": {"partitions": 3, "topicConfiguration": {"retention.ms": 1000}}},
        },
        "queue.ship": {"address": "ship", "messages": {"orders.Ship": {}}, "bindings": {"amqp": {"is": "queue"}}},
    },
    "operations": {
        "send.topic.placed": {"action": "send", "channel": {"$ref": "#/channels/topic.placed"}},
        "receive.queue.ship": {"action": "receive", "channel": {"$ref": "#/channels/queue.ship"}},
    },
    "components": {
        "schemas": {
            "Envelope": {"type": "object", "properties": {"id": {"type": "string"}}},
            "orders.Placed": {"type": "object", "properties": {"note": {"type": "string"}}},
            "orders.Ship": {"type": "object", "properties": {"note": {"type": "string", "maxLength": 9}}},
        }
    },
}
SETTINGS: dict[str, Any] = {
    "properties": {
        "SHOP_PORT": {"type": "integer", "maximum": 9000, "default": 80},
        "SHOP_NAME": {"type": "string", "x-former-names": ["SHOP_TITLE"]},
    }
}
METRICS: dict[str, Any] = {
    "shop_seconds": {"type": "histogram", "labels": ["route"], "buckets": [0.1, 1.0]},
    "shop_orders_total": {"type": "counter", "labels": ["status"]},
}
PROBLEMS: dict[str, Any] = {
    "https://shop/problems/late": {"status": 409},
    "https://shop/problems/lost": {"status": 404},
}
SCHEMAS: dict[str, Any] = {
    "orders.Placed.v1.json": {"properties": {"title": {"type": "string", "title": "Title"}}, "title": "Placed"}
}
DOCUMENTS = {asyncapi: ASYNCAPI, settings: SETTINGS, metrics: METRICS, problems: PROBLEMS, schemas: SCHEMAS}
Change = Callable[[dict[str, Any]], Any]


def topic(it: dict[str, Any]) -> dict[str, Any]:
    channel: dict[str, Any] = it["channels"]["topic.placed"]
    return channel


def shape(it: dict[str, Any], name: str) -> dict[str, Any]:
    fields: dict[str, Any] = it["components"]["schemas"][name]["properties"]
    return fields


PLANTED: list[tuple[Any, str, Change]] = [
    (asyncapi, "channel-removed topic.placed", lambda it: it["channels"].pop("topic.placed")),
    (asyncapi, "address-changed topic.placed", lambda it: topic(it).update(address="was-placed")),
    (asyncapi, "action-changed queue.ship", lambda it: it["operations"]["receive.queue.ship"].update(action="send")),
    (asyncapi, "message-removed topic.placed orders.Placed", lambda it: topic(it)["messages"].clear()),
    (asyncapi, "partitions-changed topic.placed", lambda it: topic(it)["bindings"]["kafka"].update(partitions=6)),
    (
        asyncapi,
        "retention-shortened topic.placed",
        lambda it: topic(it)["bindings"]["kafka"]["topicConfiguration"].update({"retention.ms": 10}),
    ),
    (asyncapi, "binding-changed queue.ship", lambda it: it["channels"]["queue.ship"]["bindings"]["amqp"].clear()),
    (asyncapi, "field-removed orders.Placed.note", lambda it: shape(it, "orders.Placed").clear()),
    (
        asyncapi,
        "bound-narrowed orders.Ship.note maxLength",
        lambda it: shape(it, "orders.Ship")["note"].update(maxLength=5),
    ),
    (asyncapi, "field-removed Envelope.id", lambda it: shape(it, "Envelope").clear()),
    (settings, "setting-removed SHOP_PORT", lambda it: it["properties"].pop("SHOP_PORT")),
    (settings, "former-name-removed SHOP_TITLE", lambda it: it["properties"]["SHOP_NAME"].pop("x-former-names")),
    (settings, "setting-required SHOP_NAME", lambda it: it.update(required=["SHOP_NAME"])),
    (settings, "bound-narrowed SHOP_PORT maximum", lambda it: it["properties"]["SHOP_PORT"].update(maximum=90)),
    (
        settings,
        "type-narrowed SHOP_PORT integer",
        lambda it: (
            it["properties"].update(SHOP_GATE={"type": "boolean", "x-former-names": ["SHOP_PORT"]})
            or it["properties"].pop("SHOP_PORT")
        ),
    ),
    (metrics, "metric-removed shop_orders_total", lambda it: it.pop("shop_orders_total")),
    (metrics, "metric-type-changed shop_orders_total", lambda it: it["shop_orders_total"].update(type="gauge")),
    (metrics, "label-removed shop_orders_total status", lambda it: it["shop_orders_total"]["labels"].clear()),
    (metrics, "label-added shop_orders_total by", lambda it: it["shop_orders_total"]["labels"].append("by")),
    (metrics, "bucket-removed shop_seconds 0.1", lambda it: it["shop_seconds"].update(buckets=[1.0])),
    (problems, "problem-removed https://shop/problems/late", lambda it: it.pop("https://shop/problems/late")),
    (
        problems,
        "problem-status-changed https://shop/problems/late",
        lambda it: it["https://shop/problems/late"].update(status=400),
    ),
    (schemas, "schema-removed orders.Placed.v1.json", lambda it: it.clear()),
    (
        schemas,
        "schema-changed orders.Placed.v1.json",
        lambda it: it["orders.Placed.v1.json"]["properties"].pop("title"),
    ),
]

HARMLESS: list[tuple[Any, Change]] = [
    (asyncapi, lambda it: it["channels"].update({"topic.more": {"address": "more", "messages": {}}})),
    (asyncapi, lambda it: shape(it, "orders.Placed").update(weight={"type": "integer"})),
    (asyncapi, lambda it: topic(it)["bindings"]["kafka"]["topicConfiguration"].update({"retention.ms": 9000})),
    (asyncapi, lambda it: shape(it, "orders.Ship")["note"].pop("maxLength")),
    (settings, lambda it: it["properties"].update(SHOP_COLOUR={"type": "string"})),
    (settings, lambda it: it["properties"]["SHOP_PORT"].update(default=8080, maximum=60000)),
    (
        settings,
        lambda it: it["properties"].update(
            SHOP_GATE={**it["properties"].pop("SHOP_PORT"), "x-former-names": ["SHOP_PORT"]}
        ),
    ),
    (metrics, lambda it: it.update(shop_more={"type": "gauge", "labels": []})),
    (metrics, lambda it: it["shop_seconds"].update(buckets=[0.1, 0.5, 1.0], meaning="How long it took")),
    (problems, lambda it: it.update({"https://shop/problems/more": {"status": 400}})),
    (schemas, lambda it: it["orders.Placed.v1.json"].update(title="An order was placed", description="So it was.")),
    (schemas, lambda it: it.update({"orders.Placed.v2.json": {}})),
]


def compare_with(gate: Any, change: Change) -> list[str]:
    after = copy.deepcopy(DOCUMENTS[gate])
    change(after)
    return [each.name for each in gate.find_breaks(DOCUMENTS[gate], after)]


@pytest.mark.parametrize(("gate", "name", "change"), PLANTED, ids=[name for _, name, _ in PLANTED])
def test_a_planted_break_is_found_by_its_name(gate: Any, name: str, change: Change) -> None:
    assert name in compare_with(gate, change)


@pytest.mark.parametrize(("gate", "change"), HARMLESS, ids=map(str, range(len(HARMLESS))))
def test_a_harmless_change_is_none(gate: Any, change: Change) -> None:
    assert compare_with(gate, change) == []


def test_each_rule_has_a_planted_break() -> None:
    rules = set().union(*(gate.RULES for gate in DOCUMENTS))
    assert rules <= {name.split()[0] for _, name, _ in PLANTED}
