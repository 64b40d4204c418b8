"""`caravan status`: which services run, how many messages wait, and what became a dead letter."""

import asyncio
from typing import Any, Literal

import httpx2
import typer

from caravan import environment, telemetry
from caravan.database import Database
from caravan.discovery import Discovery
from caravan.environment import SettingsError
from caravan.errors import ServiceUnavailable
from caravan.http_client import HttpClient
from caravan.leadership import Leadership
from caravan.outbox import count_pending
from caravan.runtime import BUS, Backends, choose_bus, choose_discovery, list_subscriptions
from caravan.runtime.startup import open_backends
from cli.configuration import load_kernel_settings
from cli.serve import read_backends
from cli.terminal import exit_with_error, print_json, print_line, print_table
from services.registry import SERVICES, load_services, load_settings_classes

PROBE_TIMEOUT_SECONDS = 2.0
Report = dict[str, dict[str, int | str]]


def show_status(output: Literal["table", "json"]) -> None:
    telemetry.configure_logs("warning", "text")
    report = read_backends(_collect_report())
    if output == "json":
        print_json(report)
    else:
        _print_report(report)
        _print_links()
    unanswered = [name for name in SERVICES if "url" not in report.get(name, {})]
    raise typer.Exit(1 if unanswered or any(row["dead letters"] for row in report.values()) else 0)


async def _collect_report() -> Report:
    kernel_settings = load_kernel_settings()
    if kernel_settings.database_url is None and not (kernel_settings.data / "backends.json").exists():
        exit_with_error(f"nothing runs in {kernel_settings.data}; start it with `caravan up`")
    async with open_backends(kernel_settings, lambda _: None) as backends:
        bus_database = await Database.open(BUS, backends.get_database_url(BUS), size=2)
        leadership = Leadership(backends.get_database_url(BUS), BUS)
        bus = choose_bus(kernel_settings, bus_database, leadership)
        try:
            try:
                await bus.start()
            except ConnectionError as error:
                exit_with_error(str(error))
            lag, dead_letters = (
                await bus.measure_lag(list_subscriptions(load_services())),
                await bus.list_dead_letters(list_subscriptions(load_services()), limit=1000),
            )
            urls = await _find_running(choose_discovery(kernel_settings, bus_database))
            report: Report = {}
            for service in load_services():
                names = {
                    consumer.subscription.name for consumer in (service.consumers.handlers if service.consumers else ())
                }
                row: dict[str, int | str] = {
                    "waiting": sum(lag.get(name, 0) for name in names),
                    "outbox": await _count_outbox(backends, service.databases[0].name) if service.databases else 0,
                    "dead letters": sum(dead_letter.subscription in names for dead_letter in dead_letters),
                }
                if service.name in urls:
                    row["url"] = urls[service.name]
                report[service.name] = row
            return report
        finally:
            await bus.close()
            await leadership.close()
            await bus_database.close()


async def _find_running(discovery: Discovery) -> dict[str, str]:
    """Where each service is that answers. A name or a registry's row says only where it should be."""
    async with HttpClient(timeout=PROBE_TIMEOUT_SECONDS, trust_env=False) as client:

        async def probe_service(name: str) -> tuple[str, str] | None:
            try:
                url = (await discovery.acquire_endpoint(name)).url
                return (name, url) if (await client.get(f"{url}/livez")).status_code == 200 else None
            except (ServiceUnavailable, httpx2.HTTPError):
                return None

        return dict(filter(None, await asyncio.gather(*(probe_service(name) for name in SERVICES))))


async def _count_outbox(backends: Backends, name: str) -> int:
    database = await Database.open(name, backends.get_database_url(name), size=2)
    try:
        return await count_pending(database)
    finally:
        await database.close()


def _print_links() -> None:
    """Where more is to be seen, as configured for the gateway."""
    (gateway,) = load_settings_classes(["gateway"])
    try:
        settings: Any = environment.load_class(gateway)
    except SettingsError as error:
        exit_with_error(str(error))
    for title, url in (
        ("Dashboards", settings.grafana_url),
        ("Alerts", settings.alerts_url),
        ("Traces", settings.trace_url),
    ):
        if url:
            print_line(f"{title}: {url}", style="dim")


def _print_report(report: Report) -> None:
    rows = [
        (name, row.get("url", "no answer"), row["waiting"], row["outbox"], row["dead letters"])
        for name, row in report.items()
    ]
    print_table("", ("service", "runs at", "#messages waiting", "#outbox", "#dead letters"), rows)
