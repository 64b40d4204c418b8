"""Processes of one machine find each other by what each wrote into the bus's database, as long as it keeps it fresh."""

import pytest

from caravan.bus.embedded import EmbeddedBus
from caravan.clock import new_id
from caravan.database import Database
from caravan.discovery import DatabaseDiscovery, database
from caravan.errors import ServiceUnavailable


@pytest.fixture
def discovery(embedded_bus: EmbeddedBus, monkeypatch: pytest.MonkeyPatch) -> DatabaseDiscovery:
    """One that looks each time it is asked."""
    monkeypatch.setattr(database, "_CACHE_SECONDS", 0.0)
    return DatabaseDiscovery(embedded_bus.database)


@pytest.fixture
def service() -> str:
    return f"pets-{new_id()}"


async def test_a_service_is_where_its_process_says_until_it_says_no_more(
    discovery: DatabaseDiscovery, embedded_bus: EmbeddedBus, service: str
) -> None:
    other_process = DatabaseDiscovery(embedded_bus.database)
    await other_process.register_services([service, f"{service}-too"], "http://a")
    assert (await discovery.acquire_endpoint(service)).url == "http://a"
    assert {service, f"{service}-too"} <= await discovery.list_services()
    await other_process.deregister_url("http://a")
    assert service not in await discovery.list_services()
    with pytest.raises(ServiceUnavailable, match=service) as error:
        await discovery.acquire_endpoint(service)
    assert error.value.headers["Retry-After"] == "2"


async def test_of_two_processes_the_other_is_tried_next_and_one_that_goes_takes_only_itself_away(
    discovery: DatabaseDiscovery, service: str
) -> None:
    for url in ("http://a", "http://b"):
        await discovery.register_services([service], url)
    assert {(await discovery.acquire_endpoint(service)).url for _ in range(2)} == {"http://a", "http://b"}
    assert (await discovery.acquire_endpoint(service, {"http://a"})).url == "http://b"
    assert {endpoint.url for endpoint in await discovery.list_endpoints(service)} == {"http://a", "http://b"}
    await discovery.deregister_url("http://a")
    assert {(await discovery.acquire_endpoint(service)).url for _ in range(2)} == {"http://b"}
    assert await discovery.list_endpoints(f"{service}-unknown") == []


async def set_age(db: Database, service: str, seconds: int) -> None:
    await db.fetch(
        "UPDATE registry SET seen_at = now() - make_interval(secs => $2) WHERE service = $1", service, seconds
    )


async def test_who_was_killed_is_forgotten_and_a_heartbeat_keeps_who_lives(
    discovery: DatabaseDiscovery, embedded_bus: EmbeddedBus, service: str
) -> None:
    await discovery.register_services([service], "http://a")
    await set_age(embedded_bus.database, service, 9)
    assert service in await discovery.list_services()
    await set_age(embedded_bus.database, service, 11)
    assert service not in await discovery.list_services()
    await discovery.register_services([service], "http://a")
    assert service in await discovery.list_services()


async def test_an_endpoint_that_stays_keeps_what_is_known_of_it(discovery: DatabaseDiscovery, service: str) -> None:
    await discovery.register_services([service], "http://a")
    first = await discovery.acquire_endpoint(service)
    await discovery.register_services([service], "http://b")
    assert await discovery.acquire_endpoint(service, {"http://b"}) is first
    assert first.in_flight == 2


async def test_within_a_second_the_database_is_asked_once(
    discovery: DatabaseDiscovery, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await discovery.register_services([service], "http://a")
    await discovery.acquire_endpoint(service)
    monkeypatch.setattr(database, "_CACHE_SECONDS", 3600.0)
    await discovery.deregister_url("http://a")
    assert (await discovery.acquire_endpoint(service)).url == "http://a"
