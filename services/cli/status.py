"""`caravan status`: who runs, what waits, what was given up."""

from typing import Annotated, Literal

import orjson
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from caravan import telemetry
from caravan.database import Database
from caravan.leadership import Leadership
from caravan.outbox import pending
from caravan.runtime import BUS, Backends, choose_bus, choose_discovery, subscriptions
from services.__main__ import SERVICES, load
from services.cli.serve import backends, fail, kernel_settings

Report = dict[str, dict[str, int | str]]


def status(output: Annotated[Literal["table", "json"], typer.Option(help="How to print it.")] = "table") -> None:
    """Show which services run, how many messages wait where, and what became a dead letter. Exit status 1 when something is a dead letter or doesn't run."""
    telemetry.configure_logs("warning", "text")
    report = uvloop.run(_collect())
    if output == "json":
        print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(report)
    away = [name for name in SERVICES if "url" not in report.get(name, {})]
    raise typer.Exit(1 if away or any(row["dead letters"] for row in report.values()) else 0)


async def _collect() -> Report:
    kernel = kernel_settings()
    if kernel.database_url is None and not (kernel.data / "backends.json").exists():
        fail(f"nothing runs in {kernel.data}; start it with `caravan up`")
    async with backends(kernel, lambda _: None, join=True) as servers:
        bus_database = await Database.open(BUS, servers.database(BUS), size=2)
        leadership = Leadership(servers.database(BUS), BUS)
        bus = choose_bus(kernel, bus_database, leadership)
        try:
            try:
                await bus.start()
            except ConnectionError as error:
                fail(str(error))
            lag, letters = await bus.lag(subscriptions(load())), await bus.dead_letters(subscriptions(load()), limit=1000)
            discovery = choose_discovery(kernel, bus_database)
            running = await discovery.services()
            report: Report = {}
            for service in load():
                names = {consumer.subscription.name for consumer in (service.consumers.declared if service.consumers else ())}
                row: dict[str, int | str] = {
                    "waiting": sum(lag.get(name, 0) for name in names),
                    "outbox": await _outbox(servers, service.databases[0].name) if service.databases else 0,
                    "dead letters": sum(letter.subscription in names for letter in letters),
                }
                if service.name in running:
                    row["url"] = (await discovery.locate(service.name)).url
                report[service.name] = row
            return report
        finally:
            await bus.close()
            await leadership.close()
            await bus_database.close()


async def _outbox(servers: Backends, name: str) -> int:
    database = await Database.open(name, servers.database(name), size=2)
    try:
        return await pending(database)
    finally:
        await database.close()


def _print(report: Report) -> None:
    table = Table("service", "runs at", "messages waiting", "outbox", "dead letters")
    for name, row in report.items():
        table.add_row(
            name, str(row.get("url", "[red]not running[/red]")), str(row["waiting"]), str(row["outbox"]), str(row["dead letters"])
        )
    Console().print(table)
