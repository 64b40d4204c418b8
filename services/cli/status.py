"""`caravan status`: who runs, what waits, what was given up."""

import asyncio
from typing import Literal

import httpx2
import typer

from caravan import telemetry
from caravan.database import Database
from caravan.discovery import Discovery
from caravan.errors import Unavailable
from caravan.leadership import Leadership
from caravan.outbox import pending
from caravan.runtime import BUS, Backends, choose_bus, choose_discovery, subscriptions
from services.__main__ import SERVICES, load
from services.cli.configuration import kernel_settings
from services.cli.serve import backends, read_backends
from services.cli.terminal import fail, print_json, print_table

ANSWER_SECONDS = 2.0
Report = dict[str, dict[str, int | str]]


def status(output: Literal["table", "json"]) -> None:
    telemetry.configure_logs("warning", "text")
    report = read_backends(_collect())
    if output == "json":
        print_json(report)
    else:
        _print(report)
    away = [name for name in SERVICES if "url" not in report.get(name, {})]
    raise typer.Exit(1 if away or any(row["dead letters"] for row in report.values()) else 0)


async def _collect() -> Report:
    kernel = kernel_settings()
    if kernel.database_url is None and not (kernel.data / "backends.json").exists():
        fail(f"nothing runs in {kernel.data}; start it with `caravan up`")
    async with backends(kernel, lambda _: None) as servers:
        bus_database = await Database.open(BUS, servers.database(BUS), size=2)
        leadership = Leadership(servers.database(BUS), BUS)
        bus = choose_bus(kernel, bus_database, leadership)
        try:
            try:
                await bus.start()
            except ConnectionError as error:
                fail(str(error))
            lag, letters = await bus.lag(subscriptions(load())), await bus.dead_letters(subscriptions(load()), limit=1000)
            running = await _running(choose_discovery(kernel, bus_database))
            report: Report = {}
            for service in load():
                names = {consumer.subscription.name for consumer in (service.consumers.declared if service.consumers else ())}
                row: dict[str, int | str] = {
                    "waiting": sum(lag.get(name, 0) for name in names),
                    "outbox": await _outbox(servers, service.databases[0].name) if service.databases else 0,
                    "dead letters": sum(letter.subscription in names for letter in letters),
                }
                if service.name in running:
                    row["url"] = running[service.name]
                report[service.name] = row
            return report
        finally:
            await bus.close()
            await leadership.close()
            await bus_database.close()


async def _running(discovery: Discovery) -> dict[str, str]:
    """Where each service is that answers. A name or a registry's row says only where it should be."""
    async with httpx2.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False) as client:

        async def answers(name: str) -> tuple[str, str] | None:
            try:
                url = (await discovery.locate(name)).url
                return (name, url) if (await client.get(f"{url}/livez")).status_code == 200 else None
            except (Unavailable, httpx2.HTTPError):
                return None

        return dict(filter(None, await asyncio.gather(*(answers(name) for name in SERVICES))))


async def _outbox(servers: Backends, name: str) -> int:
    database = await Database.open(name, servers.database(name), size=2)
    try:
        return await pending(database)
    finally:
        await database.close()


def _print(report: Report) -> None:
    rows = [(name, row.get("url", "no answer"), row["waiting"], row["outbox"], row["dead letters"]) for name, row in report.items()]
    print_table("", ("service", "runs at", "#messages waiting", "#outbox", "#dead letters"), rows)
