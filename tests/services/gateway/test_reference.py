"""The generated documents and the pages that show them."""

import hashlib
import re
from base64 import b64encode
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter
from pydantic import BaseModel

from caravan.auth import Staff
from caravan.runtime import Backends
from caravan.service import Service
from services.gateway.known_services import list_channels, list_known_services
from services.gateway.reference.asyncapi import build_asyncapi
from services.gateway.reference.openapi import merge_documents
from tests.support.shop import run_services


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        return (
            {node["$ref"]} if isinstance(node.get("$ref"), str) else set().union(*map(references, node.values()), set())
        )
    return set().union(*map(references, node), set()) if isinstance(node, list) else set()


def resolves(document: Any, reference: str) -> bool:
    for key in reference.removeprefix("#/").split("/"):
        if key not in document:
            return False
        document = document[key]
    return True


def document(operation_id: str, path: str, **schemas: Any) -> dict[str, Any]:
    answer = {"200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Outer"}}}}}
    return {
        "paths": {path: {"get": {"operationId": operation_id, "responses": answer}}},
        "components": {"schemas": schemas},
    }


def test_schemas_of_one_name_are_renamed_only_where_they_or_what_they_refer_to_differ() -> None:
    outer = {
        "properties": {"inner": {"$ref": "#/components/schemas/Inner"}, "again": {"$ref": "#/components/schemas/Outer"}}
    }
    same = {"type": "object"}
    merged = merge_documents(
        {
            "a": document("read", "/a", Outer=outer, Inner={"type": "string"}, Same=same),
            "b": document("read", "/b", Outer=outer, Inner={"type": "integer"}, Same=same),
        },
        "http://shop",
        "1",
    )
    assert set(merged["components"]["schemas"]) == {"AOuter", "BOuter", "AInner", "BInner", "Same"}
    assert merged["components"]["schemas"]["BOuter"]["properties"]["inner"]["$ref"] == "#/components/schemas/BInner"
    assert {item["get"]["operationId"] for item in merged["paths"].values()} == {"a_read", "b_read"}
    assert all(resolves(merged, reference) for reference in references(merged))


class Widget(BaseModel):
    name: str


async def test_the_merged_document_has_every_services_routes_with_roles_and_the_gateways_own(
    backends: Backends,
) -> None:
    router = APIRouter()

    @router.get("/v1/things", response_model=Widget)
    async def list_widgets(_: Staff) -> Widget:
        return Widget(name="x")

    async with run_services(backends, "gateway", extra_services=(Service("things", routers=(router,)),)) as shop:
        merged = (await shop.client.get("/openapi.json")).json()
        operation = merged["paths"]["/v1/things"]["get"]
        assert operation["tags"] == ["things"]
        assert operation["security"] == [{"bearer": ["staff"]}]
        assert merged["paths"]["/v1/me/overview"]["get"]["security"] == [{"bearer": ["customer"]}]
        assert not [path for path in merged["paths"] if not path.startswith(("/v1/", "/.well-known/", "/graphql"))]
        assert all(resolves(merged, reference) for reference in references(merged))


def test_every_channel_of_every_service_is_described() -> None:
    described = build_asyncapi(list_channels(), "1")
    assert described["asyncapi"] == "3.0.0"
    assert {
        "topic.order-created",
        "topic.order-processed",
        "topic.audit",
        "queue.payments.capture",
        "exchange.orders",
    } <= described["channels"].keys()
    assert len(described["channels"]) == len(list_channels()) == len(described["operations"])
    assert all(resolves(described, reference) for reference in references(described))
    assert all("." in name for name in described["components"]["messages"])


def test_the_known_services_are_those_with_a_declaration() -> None:
    assert {"gateway", "orders"} <= list_known_services()
    assert "cli" not in list_known_services()


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/graphql", "/docs/messages"])
async def test_a_page_stands_alone_and_its_script_is_the_one_that_its_policy_allows(
    backends: Backends, path: str
) -> None:
    async with run_services(backends, "gateway") as shop:
        answer: httpx2.Response = await shop.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert not re.search(r'(src|href)="(https?:)?//', answer.text)
    for script in re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL):
        digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in answer.headers["content-security-policy"]
