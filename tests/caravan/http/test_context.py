"""A route's function gets the context of the service whose application answers, and clients see nothing of it."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx2
from fastapi import APIRouter

from caravan.http import App, Injected, create_app

router = APIRouter()


@dataclass
class PetsContext:
    name: str
    secret: str = "x" * 40
    refused: None = None


@router.get("/v1/pets")
async def show_name(context: Injected[PetsContext]) -> str:
    return context.name


async def fetch(app: App, path: str) -> Any:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://shop.test") as client:
        return (await client.get(path)).json()


async def test_each_application_of_a_router_has_its_own_context() -> None:
    first, second = (create_app("pets", (router,), PetsContext(name), SimpleNamespace()) for name in ("a", "b"))
    assert [await fetch(app, "/v1/pets") for app in (first, second, first)] == ["a", "b", "a"]


async def test_it_is_no_parameter_of_the_route() -> None:
    app = create_app("pets", (router,), PetsContext("a"), SimpleNamespace())
    operation = (await fetch(app, "/openapi.json"))["paths"]["/v1/pets"]["get"]
    assert operation.get("parameters", []) == []
    assert (await fetch(app, "/v1/pets?context=x"))["status"] == 422
