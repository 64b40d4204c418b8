"""The laptop's Postgres alone: started, taken over, and reached by the way that fits its folder.

`test_embedded.py` kills it, takes its port, and changes its password.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from caravan.embedded import postgres
from caravan.embedded.paths import ServerPaths, StartError, prepare_paths
from caravan.embedded.process import Server


@pytest.fixture(scope="module")
async def paths() -> AsyncIterator[ServerPaths]:
    """Not pytest's tmp_path: as root that is one which the servers' user can't reach."""
    folder = Path(tempfile.mkdtemp(prefix="caravan-test-"))
    prepared = prepare_paths(folder, print)
    await (await start_server(prepared, "first")).stop()  # makes the cluster
    yield prepared
    if server := postgres.find_running(prepared):
        await server.stop()
    shutil.rmtree(folder)


async def start_server(paths: ServerPaths, password: str) -> Server:
    started: list[Server] = []
    server = await postgres.start(paths, password, lambda _: None, started.append)
    assert started[-1] is server, "whoever starts it can stop it, whatever happens meanwhile"
    return server


async def test_it_answers_whoever_has_the_password_and_is_taken_over_by_the_next_start(paths: ServerPaths) -> None:
    assert postgres.find_running(paths) is None
    first = await start_server(paths, "first")
    connection = await asyncpg.connect(postgres.url(first, paths, "first"))
    assert await connection.fetchval("SHOW server_encoding") == "UTF8"
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.url(first, paths, "guess"))
    found = postgres.find_running(paths)
    assert found is not None
    assert (found.process.pid, found.port) == (first.process.pid, first.port)
    taken_over = await start_server(paths, "first")
    assert taken_over.process.pid == first.process.pid
    assert await taken_over.stop()
    assert not first.is_alive()
    assert postgres.find_running(paths) is None


async def test_one_that_can_t_start_is_an_error_with_the_end_of_its_log(paths: ServerPaths) -> None:
    cluster = paths.home / "postgres"
    (cluster / "global" / "pg_control").rename(cluster / "global" / "hidden")
    try:
        with pytest.raises(StartError, match=r"did not start in .*[^$]*pg_control"):
            await start_server(paths, "first")
    finally:
        (cluster / "global" / "hidden").rename(cluster / "global" / "pg_control")
    assert postgres.find_running(paths) is None


@pytest.mark.parametrize(("folder", "is_by_socket"), [("short", True), ("long" * 30, False)])
def test_it_is_reached_by_its_socket_unless_the_folder_s_path_is_too_long_for_one(
    folder: str, is_by_socket: bool, tmp_path: Path
) -> None:
    paths = ServerPaths(Path("/") / folder, tmp_path, account=None)
    url = urlsplit(postgres.url(Server(psutil.Process(os.getpid()), 21_000), paths, "p"))
    assert (url.password, url.path) == ("p", "/postgres")
    assert (url.hostname, url.port) == ((None, None) if is_by_socket else ("127.0.0.1", 21_000))
    assert url.query == ("host=%2Fshort%2Fpostgres&port=21000" if is_by_socket else "")
