"""Clients that generators made, one from the graph's SDL and one from the OpenAPI document, place an order and watch it
until it is delivered.
"""

import asyncio
import importlib
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
import yaml

import docs
from tests.services.gateway.graphql.graph_case import GraphCase
from tests.services.gateway.stand_ins import listening
from tests.support.program import ADDRESS

DOCS = Path(docs.__file__).parent
OPERATIONS = """
mutation PlaceOrder($input: OrderInput!, $key: String!) {
  placeOrder(input: $input, idempotencyKey: $key) { id status total { amount currency } }
}
query GetOrder($id: UUID!) { order(orderId: $id) { id status lines { sku quantity product { name } } } }
subscription WatchOrder($id: UUID!) { orderChanges(orderId: $id) { version status } }
"""
SCALARS = {"UUID": "uuid.UUID", "DateTime": "datetime.datetime", "Long": "int", "JSON": "typing.Any"}
GRAPH_CLIENT = {
    "projects": {
        "shop": {
            "schema": str(DOCS / "schema.graphql"),
            "documents": "operations/*.graphql",
            "extensions": {
                "turms": {
                    "out_dir": "generated_graph",
                    "scalar_definitions": SCALARS,
                    "plugins": [
                        {"type": f"turms.plugins.{kind}.{kind.capitalize()}Plugin"}
                        for kind in ("enums", "inputs", "fragments", "operations")
                    ],
                }
            },
        }
    }
}


def _generate(folder: Path, *command: str) -> None:
    made = subprocess.run(
        [sys.executable, *command], check=False, cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-3000:]


@pytest.fixture(scope="module")
async def url(graph: GraphCase) -> AsyncIterator[str]:
    async with listening(graph.shop.process.app) as listened:
        yield listened


@pytest.mark.slow
async def test_a_client_made_from_the_sdl_orders_and_watches(
    graph: GraphCase, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "operations").mkdir()
    (tmp_path / "operations" / "shop.graphql").write_text(OPERATIONS)
    (tmp_path / "graphql.config.yaml").write_text(yaml.safe_dump(GRAPH_CLIENT))
    await asyncio.to_thread(_generate, tmp_path, "-m", "turms.cli.main", "gen")
    monkeypatch.syspath_prepend(str(tmp_path))
    made: Any = importlib.import_module("generated_graph.schema")

    who, sku = await graph.program.register_customer(), await graph.program.create_product(stock=2)
    async with httpx2.AsyncClient(base_url=url, headers=who, timeout=30, trust_env=False) as client:

        async def ask(operation: Any, **arguments: Any) -> Any:
            variables = operation.Arguments(**arguments).model_dump(mode="json", by_alias=True, exclude_unset=True)
            body = {"query": operation.Meta.document, "variables": variables}
            answer = orjson.loads((await client.post("/graphql", json=body)).content)
            assert "errors" not in answer, answer
            return operation(**answer["data"])

        order = {
            "lines": [{"sku": sku, "quantity": 2}],
            "shippingAddress": ADDRESS,
            "payment": {"method": "card", "token": "tok_ok"},
        }
        placed = (await ask(made.PlaceOrder, input=made.OrderInput(**order), key=str(uuid.uuid4()))).placeOrder
        variables = made.WatchOrder.Arguments(id=placed.id).model_dump(mode="json", by_alias=True)
        body = {"query": made.WatchOrder.Meta.document, "variables": variables}
        statuses = []
        streaming = client.stream("POST", "/graphql", json=body, headers={"accept": "text/event-stream"})
        async with asyncio.timeout(30), streaming as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    event = made.WatchOrder(**orjson.loads(line[6:])["data"])
                    statuses.append(event.orderChanges.status)
        assert statuses[-1] == "delivered"
        order = (await ask(made.GetOrder, id=placed.id)).order
        assert (order.status, order.lines[0].sku, order.lines[0].product.name) == ("delivered", sku, f"Thing {sku}")


@pytest.mark.slow
async def test_a_client_made_from_the_openapi_document_orders_and_watches(
    graph: GraphCase, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"post_hooks": [], "package_name_override": "generated_rest"}))
    (tmp_path / "openapi.json").write_bytes((await graph.shop.client.get("/openapi.json")).content)
    generator = ("-m", "openapi_python_client", "generate", "--path", "openapi.json", "--config", "config.yaml")
    await asyncio.to_thread(_generate, tmp_path, *generator, "--meta", "none", "--output-path", "generated_rest")
    monkeypatch.syspath_prepend(str(tmp_path))
    made: Any = importlib.import_module("generated_rest")
    models: Any = importlib.import_module("generated_rest.models")
    post_order: Any = importlib.import_module("generated_rest.api.orders.post_order")
    get_order: Any = importlib.import_module("generated_rest.api.orders.get_order")

    who, sku = await graph.program.register_customer(), await graph.program.create_product(stock=2)
    token = who["authorization"].partition(" ")[2]
    async with made.AuthenticatedClient(base_url=url, token=token) as client:
        body = models.OrderRequest.from_dict(
            {"lines": [{"sku": sku, "quantity": 2}], "shipping_address": ADDRESS, "payment": {"token": "tok_ok"}}
        )
        placed = await post_order.asyncio(client=client, body=body, idempotency_key=str(uuid.uuid4()))
        assert isinstance(placed, models.AcceptedOrder), placed
        async with asyncio.timeout(30):
            version, status = placed.version, placed.status
            while status != "delivered":
                order = await get_order.asyncio(placed.id, client=client)
                assert isinstance(order, models.OrderDocument), order
                assert order.version >= version
                version, status = order.version, order.status
                await asyncio.sleep(0.05)
        assert [(line.sku, line.quantity) for line in order.lines] == [(sku, 2)]
