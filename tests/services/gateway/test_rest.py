"""A gateway that nobody asks reads the services' documents seldom, and looks at once when it is asked for what it
doesn't know.
"""

from typing import Any

from caravan.http import App
from caravan.runtime import Backends
from services.gateway.routing.table import RESTING_REFRESH_SECONDS
from tests.services.gateway.stand_ins import Pets, listening, registered
from tests.support.shop import run_services, wait_until


class Counted(Pets):
    read = 0

    def app(self, backends: Backends) -> App:
        served = super().app(backends)

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            self.read += scope["path"] == "/openapi.json"
            await served(scope, receive, send)

        return counted


async def test_documents_are_read_seldom_while_nobody_asks(backends: Backends) -> None:
    pets = Counted("snakes")
    async with run_services(backends, "gateway") as shop, registered(shop, pets, backends):
        table = shop.get_context("gateway").resources.table
        table.used_at -= 3600
        before = pets.read
        for _ in range(5):
            await table.keep_fresh()
        assert pets.read == before
        table.refreshed_at -= RESTING_REFRESH_SECONDS
        await table.keep_fresh()
        assert pets.read == before + 1
        assert (await shop.client.get("/v1/snakes/rex")).status_code == 200
        await table.keep_fresh()
        assert pets.read > before + 1


async def test_a_service_that_came_while_nobody_asked_is_found_by_the_first_who_asks(backends: Backends) -> None:
    pets = Pets("lizards")
    async with run_services(backends, "gateway") as shop, listening(pets.app(backends)) as url:
        table = shop.get_context("gateway").resources.table
        await shop.process.discovery.register_services([pets.name], url)

        async def answered() -> bool:
            table.refreshed_at -= 3600
            return (await shop.client.get("/v1/lizards/rex")).status_code == 200

        await wait_until(answered)
        assert (await shop.client.get("/v1/nothing")).status_code == 404
        read = table.refreshed_at
        assert (await shop.client.get("/v1/nothing-else")).status_code == 404 and table.refreshed_at == read, (
            "not for each unknown path"
        )
        await shop.process.discovery.deregister_url(url)
