"""A process opens its services in order, runs their tasks, and leaves nothing open when it stops or fails to start."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from fastapi import APIRouter

from caravan.runtime import Backends
from caravan.service import PeriodicTask, Service
from tests.support.shop import run_services


class Events:
    """What a service did, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.has_run = asyncio.Event()

    def build_service(self, name: str = "pets", *, failing: str = "") -> Service:
        router = APIRouter()

        @router.get(f"/v1/{name}")
        async def show_name() -> str:
            return name

        @asynccontextmanager
        async def open_resources(_: Any) -> AsyncIterator[str]:
            self.names.append(f"open {name}")
            yield f"resources of {name}"
            self.names.append(f"close {name}")

        async def prepare(context: Any) -> None:
            self.names.append(f"prepare {context.resources}")
            if failing:
                raise ValueError(failing)

        async def run(_: Any) -> bool:
            self.has_run.set()
            return False

        return Service(
            name,
            routers=(router,),
            open_resources=open_resources,
            prepare=prepare,
            periodic_tasks=(PeriodicTask("feeding", 3600.0, run),),
        )


async def list_connections(backends: Backends) -> set[str]:
    """Of every process to the databases."""
    admin = await asyncpg.connect(backends.database_url)
    try:
        rows = await admin.fetch("SELECT pid FROM pg_stat_activity WHERE datname LIKE 'caravan%'")
        return {str(row[0]) for row in rows}
    finally:
        await admin.close()


def list_task_names() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() if not task.get_name().startswith("Task-")}


async def test_all_resources_are_there_before_a_service_prepares_and_they_are_closed_backwards(
    backends: Backends,
) -> None:
    events = Events()
    services = (events.build_service("cats"), events.build_service("dogs"))
    async with run_services(backends, extra_services=services) as shop:
        assert (await shop.client.get("/v1/cats")).json() == "cats"
        async with asyncio.timeout(5):
            await events.has_run.wait()
    assert events.names == [
        "open cats",
        "open dogs",
        "prepare resources of cats",
        "prepare resources of dogs",
        "close dogs",
        "close cats",
    ]


async def test_while_it_runs_it_is_found_and_ready_and_afterwards_it_is_neither(backends: Backends) -> None:
    before = list_task_names()
    async with run_services(backends, extra_services=(Events().build_service(),)) as shop:
        process = shop.process
        assert (await process.discovery.acquire_endpoint("pets")).url == process.url
        assert (await shop.client.get("/readyz")).status_code == 200
        assert {"heartbeat", "purge", "periodic pets.feeding"} <= list_task_names()
        await process.stop()
        assert (await shop.client.get("/livez")).status_code == 200, "it still answers while it drains"
        assert (await shop.client.get("/readyz")).status_code == 503
    assert list_task_names() == before
    assert await list_connections(backends) == set()


async def test_one_that_fails_to_start_closes_what_it_has_opened(backends: Backends) -> None:
    events = Events()
    before = list_task_names()
    with pytest.raises(ValueError, match="nothing to feed"):
        async with run_services(backends, extra_services=(events.build_service(failing="nothing to feed"),)):
            raise AssertionError("it runs")
    assert events.names == ["open pets", "prepare resources of pets", "close pets"]
    assert list_task_names() == before
    assert await list_connections(backends) == set()
