"""Every route against every role: kept out exactly where the table says, at the gateway and again in the service
itself.
"""

from typing import Any

import pytest

from caravan.http import App
from services.gateway.limits import RateClasses
from services.gateway.reference.openapi import list_operations
from services.gateway.routing.trie import OWN_SERVICE
from tests.api.conftest import World
from tests.api.matrix import COLUMNS, Route, role_needed, routes, rows, unlike
from tests.services.gateway.stand_ins import listening

BODIES = {"post", "put", "patch"}
TABLE = rows()


async def test_every_route_has_a_row_and_every_row_a_route(world: World) -> None:
    assert unlike(TABLE, routes(world.document)) == []


def test_a_new_route_without_a_row_is_noticed() -> None:
    assert unlike(TABLE, {*TABLE, ("GET", "/v1/planted")}) == ["GET /v1/planted has no row in roles.txt"]
    assert unlike({*TABLE, ("GET", "/v1/gone")}, TABLE) == [
        "GET /v1/gone has a row in roles.txt, but no service has it"
    ]


async def test_the_documented_role_of_a_route_is_the_one_in_its_row(world: World) -> None:
    documented = {
        (method.upper(), path): _role(operation) for path, method, operation in list_operations(world.document)
    }
    assert documented == {route: role_needed(row) for route, row in TABLE.items()}


def _role(operation: dict[str, Any]) -> str | None:
    roles = [role for one in operation.get("security", []) for role in one.get("bearer", [])]
    return max(roles, key=COLUMNS.index) if roles else None


@pytest.mark.parametrize("route", TABLE, ids=" ".join)
async def test_the_gateway_keeps_out_whom_the_table_says(world: World, route: Route) -> None:
    assert await _outcomes(world, world.client, route) == TABLE[route]


async def test_each_service_keeps_out_whom_the_table_says_without_the_gateway(world: World) -> None:
    """As far as 401 and 403 go, which the gateway could have answered; with the tokens of the same users."""
    owner = {
        (method.upper(), path): operation["tags"][0] for path, method, operation in list_operations(world.document)
    }
    wrong = []
    async with listening(_by_service(world, owner)) as url:
        for route, row in TABLE.items():
            if owner[route] == OWN_SERVICE:
                continue
            for role in COLUMNS:
                status = await _status(world, f"{url}/{owner[route]}", route, role)
                if (str(status) if status in (401, 403) else "in") != (
                    row[role] if row[role] in ("401", "403") else "in"
                ):
                    wrong.append((route, role, status))
    assert wrong == []


def _by_service(world: World, owner: dict[Route, str]) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        service, _, path = scope["path"].lstrip("/").partition("/")
        await world.shop.process.peers[service](
            {**scope, "path": f"/{path}", "raw_path": f"/{path}".encode()}, receive, send
        )

    return app


async def _outcomes(world: World, client: Any, route: Route) -> dict[str, str]:
    found = {}
    for role in COLUMNS:
        status = await _status(world, str(client.base_url).rstrip("/"), route, role)
        assert status < 500
        expected = TABLE[route][role]
        kept_out = status in (401, 403) or (status == 404 and expected != "none")
        found[role] = str(status) if kept_out else "none" if expected == "none" else "in"
    return found


async def _status(world: World, base: str, route: Route, role: str) -> int:
    """Streams: some answers have no end."""
    method, path = route
    known = {**world.known, "sku": await world.product()} if method == "DELETE" and role == "admin" else world.known
    body: Any = {} if method.lower() in BODIES else None
    async with world.client.stream(
        method, base + path.format(**known), headers=world.headers[role], json=body
    ) as answer:
        return answer.status_code


async def test_the_routes_that_have_a_limit_of_their_own_exist(world: World) -> None:
    declared = {path for method, path in routes(world.document) if method == "POST"}
    assert {*RateClasses.AUTH_PATHS, RateClasses.REGISTRATION_PATH, RateClasses.ORDERS_PATH} <= declared
