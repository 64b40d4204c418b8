"""Whoever is told that a process is ready finds all that the settings promise: nobody is answered before."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import uvicorn

from caravan import settings
from caravan.errors import ServiceUnavailable
from caravan.runtime import Backends, Process
from caravan.runtime.server import Server, open_listener
from cli import serve
from cli.seed import PRODUCTS
from tests.conftest import clear_backends
from tests.support.program import ADMIN, build_environment
from tests.support.shop import wait_until

FORM = {"grant_type": "password", "username": ADMIN[0], "password": ADMIN[1]}


@pytest.fixture
def place(backends: Backends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings of a program on the tests' own backends."""
    own = {
        "CARAVAN_DATABASE_URL": backends.database_url,
        "CARAVAN_REDIS_URL": backends.redis_url,
        "CARAVAN_SECRET": backends.secret,
    }
    for name, value in build_environment(tmp_path, **own).items():
        monkeypatch.setenv(name, value)
    return own


async def test_nobody_is_answered_while_the_settings_promises_are_being_kept(place: dict[str, str]) -> None:
    """Deterministic: what is promised is held back until the entry point has been tried."""
    released, prepared, begun = asyncio.Event(), asyncio.Event(), asyncio.Event()
    addresses: list[str] = []

    async def prepare(process: Process) -> str:
        if not addresses:
            addresses.append(process.address)
            raise ServiceUnavailable("the database is slow at first, and is waited for")
        begun.set()
        await released.wait()
        prepared.set()
        return "made"

    async def follow(process: Process, made: str) -> None:
        assert made == "made"

    serving = asyncio.create_task(serve.serve(["catalog"], settings.load_kernel(), lambda _: None, prepare, follow))
    try:
        await asyncio.wait_for(begun.wait(), 60)
        async with httpx2.AsyncClient(base_url=addresses[0], timeout=60) as client:
            asking = asyncio.create_task(client.get("/readyz"))
            done, _ = await asyncio.wait([asking], timeout=0.5)
            assert not done, asking.result().text
            released.set()
            assert (await asking).status_code == 200
            assert prepared.is_set()
    finally:
        if not serving.done():
            os.kill(os.getpid(), signal.SIGTERM)  # it has taken over the signal
        await asyncio.gather(serving, return_exceptions=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)


@pytest.fixture
async def program(
    place: dict[str, str], backends: Backends, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[str, Path]]:
    """`caravan …` in an empty place, on a port that is known before it listens; the URL, and the file that it writes
    to.
    """
    await clear_backends(backends)
    with open_listener("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    log = tmp_path / "log"
    with log.open("wb") as out:
        started = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from cli.__main__ import main; main()", *request.param),
            env={
                **build_environment(tmp_path, **place),
                "CARAVAN_PORT": str(port),
                "CARAVAN_SEED": "demo",
                "CARAVAN_DRAIN_SECONDS": "2",
            },
            stdout=out,
            stderr=asyncio.subprocess.STDOUT,
        )
    yield f"http://127.0.0.1:{port}", log
    started.send_signal(signal.SIGTERM)
    await asyncio.wait_for(started.wait(), 60)


async def first_ready(client: httpx2.AsyncClient, log: Path) -> None:
    async def ready() -> bool:
        try:
            return (await client.get("/readyz")).status_code == 200
        except httpx2.TransportError:
            return False

    try:
        await wait_until(ready, seconds=90, every=0.001)
    except AssertionError:
        raise AssertionError(log.read_text()) from None


@pytest.mark.slow
@pytest.mark.parametrize("program", [["run", "identity"], ["run", "all"]], indirect=True)
async def test_the_admin_signs_in_at_the_moment_of_readiness(program: tuple[str, Path]) -> None:
    url, log = program
    async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
        await first_ready(client, log)
        answer = await client.post("/v1/auth/token", data=FORM)
        assert answer.status_code == 200, answer.text


@pytest.mark.slow
@pytest.mark.parametrize("program", [["up"]], indirect=True)
async def test_all_of_the_demo_catalogue_is_there_at_the_moment_of_readiness(program: tuple[str, Path]) -> None:
    url, log = program
    async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
        await first_ready(client, log)
        found, stock, token = await asyncio.gather(
            client.get("/v1/products", params={"limit": 100}),
            client.get("/v1/stock/LAST-ONE"),
            client.post("/v1/auth/token", data=FORM),
        )
        assert {item["sku"] for item in found.json()["items"]} == {row[0] for row in PRODUCTS}
        assert stock.json()["available"] == 1
        assert token.status_code == 200


async def test_a_server_that_nobody_asks_sleeps_until_it_is_told_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(uvicorn.Config(_nothing))
    ticks, tick = list[int](), server.on_tick

    async def counted(counter: int) -> bool:
        ticks.append(counter)
        return await tick(counter)

    monkeypatch.setattr(server, "on_tick", counted)
    running = asyncio.create_task(server.main_loop())
    await asyncio.sleep(0.5)  # the length of the observation, not a wait for something
    assert len(ticks) == 1
    assert server.server_state.default_headers[0][0] == b"date"
    server.stop()
    await asyncio.wait_for(running, 0.5)


async def _nothing(*_: object) -> None: ...
