"""`caravan projections`: list read models, and build one anew while the shop runs."""

import typer

from caravan import telemetry
from caravan.audit import OPERATOR, audit
from caravan.database import Database
from caravan.service import Rebuilt, Service
from services.__main__ import load
from services.cli.configuration import kernel_settings
from services.cli.serve import backends, read_backends
from services.cli.terminal import fail, print_line, print_note, print_table, show_spinner


def _owners() -> dict[str, Service]:
    return {name: service for service in load() for name in service.projections}


def list_projections() -> None:
    print_table("", ("read model", "service"), [(name, service.name) for name, service in sorted(_owners().items())])


def rebuild(name: str) -> None:
    owners = _owners()
    if name not in owners:
        fail(f"no projection {name}; there are: {', '.join(sorted(owners))}")
    telemetry.configure_logs("warning", "text")
    rebuilt = read_backends(_rebuild(owners[name], name))
    print_line(
        f"{name}: {rebuilt.events} events, {rebuilt.rows} rows, {'equal to the live one' if rebuilt.same else 'the live one DIFFERED and was replaced'}"
    )
    raise typer.Exit(0 if rebuilt.same else 1)


async def _rebuild(service: Service, name: str) -> Rebuilt:
    kernel = kernel_settings()
    async with backends(kernel, print_note) as servers:
        databases = {
            declared.name: await Database.open(declared.name, servers.database(declared.name), size=2) for declared in service.databases
        }
        try:
            with show_spinner(f"{name}: reading events") as update:
                rebuilt = await service.projections[name](databases, lambda count: update(f"{name}: {count} events read"))
            async with databases[service.databases[0].name].work() as work:
                audit(
                    work,
                    "projection.rebuilt",
                    f"projection:{name}",
                    actor=OPERATOR,
                    events=rebuilt.events,
                    rows=rebuilt.rows,
                    same=rebuilt.same,
                )
            return rebuilt
        finally:
            for database in databases.values():
                await database.close()
