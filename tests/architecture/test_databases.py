"""A service's role reaches its own database and no other."""

from urllib.parse import urlsplit

import asyncpg
import pytest

from caravan.database.migrations import build_role_url
from caravan.runtime import BUS, Backends, run_migrations
from services.registry import load_services


@pytest.fixture(scope="module")
async def databases(backends: Backends) -> list[str]:
    services = load_services()
    await run_migrations(services, backends)
    return [BUS, *(declared.name for service in services for declared in service.databases)]


async def test_no_role_can_connect_to_the_database_of_another(backends: Backends, databases: list[str]) -> None:
    reached = []
    for own in databases:
        for other in databases:
            if own == other:
                continue
            url = urlsplit(backends.get_database_url(own))._replace(path=f"/caravan_{other}").geturl()
            try:
                await (await asyncpg.connect(url)).close()
            except asyncpg.InsufficientPrivilegeError:
                continue
            reached.append((own, other))
    assert reached == []


async def test_a_wrong_password_is_refused(backends: Backends, databases: list[str]) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(build_role_url(backends.database_url, databases[1], "another password"))


async def test_migrating_again_changes_nothing(backends: Backends, databases: list[str]) -> None:
    await run_migrations(load_services(), backends)
    connection = await asyncpg.connect(backends.get_database_url("orders"))
    versions = {row[0] for row in await connection.fetch("SELECT version_num FROM alembic_version")}
    await connection.close()
    assert versions >= {"k0003", "orders0003"}
