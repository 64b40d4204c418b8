"""Postgres by TLS: migrations, pool and leadership, and a failure that names the setting."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from caravan.database import Database
from caravan.database.migrations import (
    KERNEL_VERSIONS,
    build_role_url,
    check_versions,
    provision_databases,
    upgrade_database,
)
from caravan.leadership import Leadership
from caravan.runtime import Backends
from caravan.tls import CertificateFiles, TlsError, complete_url
from tests.support.certificates import Authority, create_authority
from tests.support.tls_tunnel import TlsTunnel, connect_to, open_tunnel

NAME = "by_tls"


@pytest.fixture
def tunnel(backends: Backends, authority: Authority, tmp_path: Path) -> Iterator[TlsTunnel]:
    server = authority.write_certificate(tmp_path / "server", "localhost")
    with open_tunnel(
        lambda: connect_to(backends.database_url), server, is_postgres=True, asks_certificate=True
    ) as tunnel:
        yield tunnel


def build_url(backends: Backends, tunnel: TlsTunnel, host: str = "localhost") -> str:
    parts = urlsplit(backends.database_url)
    return f"postgresql://{parts.username}:{parts.password}@{host}:{tunnel.port}/postgres"


async def test_everything_of_a_database_connects_by_tls(
    backends: Backends, authority: Authority, tunnel: TlsTunnel, tmp_path: Path
) -> None:
    files = CertificateFiles.find(authority.write_certificate(tmp_path / "client"))
    server = complete_url(build_url(backends, tunnel), files)
    await provision_databases(server, {NAME: "a password"})
    url = build_role_url(server, NAME, "a password")
    assert await upgrade_database(NAME, url, [KERNEL_VERSIONS])
    await check_versions(NAME, url, [KERNEL_VERSIONS])
    database, leadership = await Database.open(NAME, url), Leadership(url, NAME)
    try:
        assert await database.fetchval("SELECT 1") == 1
        assert await leadership.try_lead("task")
    finally:
        await leadership.close()
        await database.close()
    assert (tunnel.plain_count, tunnel.tls_count >= 5) == (0, True)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("ca", "CARAVAN_DATABASE_URL: the server's certificate is refused: .*; its CA must be in "),
        ("host", "not valid for '127.0.0.1'; name the server as its certificate does"),
    ],
)
async def test_what_is_wrong_is_named(
    backends: Backends, authority: Authority, tunnel: TlsTunnel, tmp_path: Path, case: str, words: str
) -> None:
    other = authority if case == "host" else create_authority("another")
    files = CertificateFiles(str(other.write_ca(tmp_path / "other")))
    host = "127.0.0.1" if case == "host" else "localhost"
    with pytest.raises(TlsError, match=words):
        await Database.open(NAME, complete_url(build_url(backends, tunnel, host), files))
    assert tunnel.plain_count == 0
