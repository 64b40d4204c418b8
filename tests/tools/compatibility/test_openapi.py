"""Each rule of the REST API's compatibility by a planted break, beside harmless changes of the same places."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tools.compatibility import json_schema, openapi
from tools.compatibility.openapi import find_breaks

Document = dict[str, Any]
Change = Callable[[Document], Any]

ORDER = {
    "type": "object",
    "required": ["id", "status"],
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "status": {"type": "string", "enum": ["created", "paid"]},
        "note": {"type": "string"},
        "total": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "parent": {"anyOf": [{"$ref": "#/components/schemas/Order"}, {"type": "null"}]},
    },
}
NEW_ORDER = {
    "type": "object",
    "required": ["sku"],
    "properties": {
        "sku": {"type": "string", "maxLength": 40},
        "quantity": {"type": "number", "minimum": 1, "maximum": 99, "default": 1},
        "method": {"type": "string", "enum": ["card", "invoice"]},
        "email": {"type": "string"},
        "gifts": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
        "address": {"type": "object", "properties": {}},
    },
}
BEFORE: Document = {
    "paths": {
        "/v1/orders/{id}": {
            "post": {
                "operationId": "place_order",
                "security": [{"bearer": ["customer"]}],
                "parameters": [
                    {"in": "path", "name": "id", "required": True, "schema": {"type": "string"}},
                    {"in": "query", "name": "limit", "schema": {"type": "integer", "maximum": 100}},
                    {"in": "query", "name": "view", "schema": {"type": "string"}},
                ],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewOrder"}}}},
                "responses": {
                    "202": {
                        "content": {
                            "application/json": {"schema": {"$ref": "#/components/schemas/Order"}},
                            "text/csv": {"schema": {"type": "string"}},
                        },
                        "headers": {"Location": {"required": True}, "ETag": {"required": True}},
                    },
                    "409": {"$ref": "#/components/responses/Conflict"},
                },
            }
        }
    },
    "components": {
        "schemas": {"Order": ORDER, "NewOrder": NEW_ORDER},
        "responses": {"Conflict": {"headers": {"Retry-After": {}}}},
    },
}


def read(document: Document) -> Document:
    """The one operation."""
    operation: Document = document["paths"]["/v1/orders/{id}"]["post"]
    return operation


def sent(document: Document) -> Document:
    fields: Document = document["components"]["schemas"]["NewOrder"]
    return fields


def answered(document: Document) -> Document:
    fields: Document = document["components"]["schemas"]["Order"]
    return fields


def accepted(document: Document) -> Document:
    answer: Document = read(document)["responses"]["202"]
    return answer


PLANTED: list[tuple[str, Change]] = [
    ("operation-removed POST /v1/orders/{id}", lambda it: it["paths"].clear()),
    ("operation-removed POST /v1/orders/{id}", lambda it: it["paths"].update({"/v1/orders/{id}": {}})),
    ("operation-id-changed POST /v1/orders/{id}", lambda it: read(it).update(operationId="order")),
    ("role-raised POST /v1/orders/{id}", lambda it: read(it).update(security=[{"bearer": ["staff"]}])),
    ("parameter-removed POST /v1/orders/{id} query view", lambda it: read(it)["parameters"].pop()),
    ("parameter-removed POST /v1/orders/{id} path id", lambda it: read(it)["parameters"][0].update(name="order_id")),
    (
        "parameter-required POST /v1/orders/{id} header key",
        lambda it: read(it)["parameters"].append({"in": "header", "name": "key", "required": True, "schema": {}}),
    ),
    ("parameter-required POST /v1/orders/{id} query view", lambda it: read(it)["parameters"][2].update(required=True)),
    (
        "bound-narrowed POST /v1/orders/{id} limit maximum",
        lambda it: read(it)["parameters"][1]["schema"].update(maximum=50),
    ),
    ("body-required POST /v1/orders/{id}", lambda it: read(it)["requestBody"].update(required=True)),
    (
        "media-type-removed POST /v1/orders/{id} body application/json",
        lambda it: read(it)["requestBody"]["content"].clear(),
    ),
    ("media-type-removed POST /v1/orders/{id} 202 text/csv", lambda it: accepted(it)["content"].pop("text/csv")),
    (
        "answer-removed POST /v1/orders/{id} 202",
        lambda it: read(it)["responses"].update({"200": accepted(it)}) or read(it)["responses"].pop("202"),
    ),
    ("error-removed POST /v1/orders/{id} 409", lambda it: read(it)["responses"].pop("409")),
    ("header-removed POST /v1/orders/{id} 202 Location", lambda it: accepted(it)["headers"].pop("Location")),
    (
        "header-removed POST /v1/orders/{id} 409 Retry-After",
        lambda it: it["components"]["responses"]["Conflict"]["headers"].clear(),
    ),
    ("header-optional POST /v1/orders/{id} 202 ETag", lambda it: accepted(it)["headers"].update(ETag={})),
    ("field-removed Order.note", lambda it: answered(it)["properties"].pop("note")),
    ("field-optional Order.id", lambda it: answered(it)["required"].remove("id")),
    ("format-changed Order.id", lambda it: answered(it)["properties"]["id"].pop("format")),
    ("value-added Order.status lost", lambda it: answered(it)["properties"]["status"]["enum"].append("lost")),
    ("value-added Order.status", lambda it: answered(it)["properties"]["status"].pop("enum")),
    ("type-widened Order.note null", lambda it: answered(it)["properties"]["note"].update(type=["string", "null"])),
    (
        "type-widened Order.total number",
        lambda it: answered(it)["properties"]["total"]["anyOf"][0].update(type="number"),
    ),
    ("field-removed NewOrder.email", lambda it: sent(it)["properties"].pop("email")),
    (
        "field-required NewOrder.coupon",
        lambda it: sent(it)["required"].append("coupon") or sent(it)["properties"].update(coupon={"type": "string"}),
    ),
    ("field-required NewOrder.email", lambda it: sent(it)["required"].append("email")),
    ("closed NewOrder", lambda it: sent(it).update(additionalProperties=False)),
    ("closed NewOrder.address", lambda it: sent(it)["properties"]["address"].update(additionalProperties=False)),
    ("value-removed NewOrder.method invoice", lambda it: sent(it)["properties"]["method"]["enum"].pop()),
    ("value-removed NewOrder.email", lambda it: sent(it)["properties"]["email"].update(const="a@b")),
    ("bound-narrowed NewOrder.quantity maximum", lambda it: sent(it)["properties"]["quantity"].update(maximum=9)),
    ("bound-narrowed NewOrder.quantity minimum", lambda it: sent(it)["properties"]["quantity"].update(minimum=2)),
    ("bound-narrowed NewOrder.email maxLength", lambda it: sent(it)["properties"]["email"].update(maxLength=9)),
    ("bound-narrowed NewOrder.gifts uniqueItems", lambda it: sent(it)["properties"]["gifts"].update(uniqueItems=True)),
    ("pattern-changed NewOrder.email pattern", lambda it: sent(it)["properties"]["email"].update(pattern="@")),
    ("format-changed NewOrder.email", lambda it: sent(it)["properties"]["email"].update(format="email")),
    ("type-narrowed NewOrder.quantity number", lambda it: sent(it)["properties"]["quantity"].update(type="integer")),
    ("type-narrowed NewOrder.gifts[] integer", lambda it: sent(it)["properties"]["gifts"]["items"]["anyOf"].pop()),
    ("default-changed NewOrder.quantity", lambda it: sent(it)["properties"]["quantity"].update(default=2)),
]

HARMLESS: list[Change] = [
    lambda it: it["paths"].update({"/v1/more": {"get": {"operationId": "more", "responses": {}}}}),
    lambda it: read(it).pop("security"),
    lambda it: read(it)["parameters"].append({"in": "query", "name": "page", "schema": {"type": "string"}}),
    lambda it: read(it)["parameters"][1]["schema"].update(maximum=500),
    lambda it: read(it)["requestBody"]["content"].update({"text/csv": {}}),
    lambda it: read(it)["responses"].update({"429": {}}),
    lambda it: accepted(it)["headers"].update(Age={}),
    lambda it: answered(it)["properties"].update(weight={"type": "integer"}),
    lambda it: answered(it)["required"].append("note"),
    lambda it: answered(it)["properties"]["status"]["enum"].pop(),
    lambda it: answered(it)["properties"]["total"]["anyOf"].pop(),
    lambda it: answered(it)["properties"]["note"].update(maxLength=9, description="What the customer says."),
    lambda it: sent(it)["properties"].update(coupon={"type": "string"}),
    lambda it: sent(it)["required"].clear(),
    lambda it: sent(it)["properties"]["method"]["enum"].append("voucher"),
    lambda it: sent(it)["properties"]["quantity"].update(maximum=999, minimum=0),
    lambda it: sent(it)["properties"]["gifts"]["items"]["anyOf"].append({"type": "boolean"}),
    lambda it: sent(it)["properties"]["sku"].pop("maxLength"),
]


def compare_with(change: Change) -> list[str]:
    after = copy.deepcopy(BEFORE)
    change(after)
    return [each.name for each in find_breaks(BEFORE, after)]


@pytest.mark.parametrize(("name", "change"), PLANTED, ids=[name for name, _ in PLANTED])
def test_a_planted_break_is_found_by_its_name(name: str, change: Change) -> None:
    assert name in compare_with(change)


@pytest.mark.parametrize("change", HARMLESS, ids=map(str, range(len(HARMLESS))))
def test_a_harmless_change_is_none(change: Change) -> None:
    assert compare_with(change) == []


def test_each_rule_has_a_planted_break() -> None:
    assert {name.split()[0] for name, _ in PLANTED} == openapi.RULES.keys() | json_schema.RULES.keys()
