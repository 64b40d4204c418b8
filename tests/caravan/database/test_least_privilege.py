"""In a cluster a service makes no database: it waits for its own, and knows no other's password."""

from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx2
import pytest

from caravan.database.migrations import NotMigrated, get_role_name
from caravan.environment import SettingsError
from caravan.runtime import BUS, Backends, check_migrations, run_migrations
from services.registry import load_services
from tests.support.shop import run_services


def userless(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    for name in (BUS, "catalog"):
        (tmp_path / name).write_text(f"the password of {name}: 'quoted' & escaped\n")
    return tmp_path


async def test_a_service_finds_its_databases_once_somebody_has_migrated_them(
    backends: Backends, passwords: Path
) -> None:
    administrator = Backends(backends.database_url, backends.redis_url, backends.secret, passwords_folder=passwords)
    service = Backends(
        userless(backends.database_url), backends.redis_url, "another secret", passwords_folder=passwords
    )
    with pytest.raises(NotMigrated, match="caravan_bus can't be opened"):
        await check_migrations(load_services(["catalog"]), service)
    made = await run_migrations(load_services(["catalog"]), administrator)
    assert made.keys() == {BUS, "catalog"}
    assert all(made.values())
    await check_migrations(load_services(["catalog"]), service)


async def test_a_database_that_is_behind_the_code_is_named_with_what_it_lacks(
    backends: Backends, passwords: Path
) -> None:
    given = Backends(backends.database_url, backends.redis_url, backends.secret, passwords_folder=passwords)
    assert await run_migrations(load_services(["catalog"]), given) == {}, "there was nothing left to make"
    connection = await asyncpg.connect(given.get_database_url("catalog"))
    version = await connection.fetchval(
        "DELETE FROM alembic_version WHERE version_num LIKE 'catalog%' RETURNING version_num"
    )
    with pytest.raises(NotMigrated, match=f"{get_role_name('catalog')} lacks .*{version}"):
        await check_migrations(load_services(["catalog"]), given)
    await connection.execute("INSERT INTO alembic_version VALUES ($1), ('from-newer-code')", version)
    await check_migrations(load_services(["catalog"]), given)
    await connection.execute("DELETE FROM alembic_version WHERE version_num = 'from-newer-code'")
    await connection.close()


async def test_a_password_that_was_not_given_is_asked_for_by_name(backends: Backends, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CARAVAN_DATABASE_PASSWORDS: no password for the database orders"):
        Backends(
            backends.database_url, backends.redis_url, backends.secret, passwords_folder=tmp_path
        ).get_database_url("orders")


async def test_with_a_port_of_their_own_probes_and_metrics_are_not_for_clients(backends: Backends) -> None:
    async with run_services(backends, "catalog") as shop:
        assert (await shop.client.get("/metrics")).status_code == 200
    async with run_services(backends, "catalog", probe_port=9) as shop:
        probes = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=shop.process.app.serve_probes), base_url="http://probes"
        )
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await shop.client.get(path)).status_code == 404, path
            assert (await probes.get(path)).status_code == 200, path
        assert (await probes.get("/v1/products")).status_code == 404
        await probes.aclose()
