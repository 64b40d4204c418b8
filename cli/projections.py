"""`caravan projections`: list read models, and build one anew while the shop runs."""

from collections.abc import Callable, Mapping

import typer

from caravan import telemetry
from caravan.audit import OPERATOR, record_audit
from caravan.clock import utc_now
from caravan.database import Database
from caravan.rebuild import LogTooShort, LogUnreadable, TopicRebuild
from caravan.runtime import Backends
from caravan.runtime.backends import open_topic_log
from caravan.runtime.startup import open_backends
from caravan.service import ReadModel, RebuildResult, Service
from caravan.settings import Settings
from caravan.status import record_rebuild
from cli.configuration import load_kernel_settings
from cli.serve import read_backends
from cli.terminal import exit_with_error, print_line, print_note, print_table, show_spinner
from services.registry import load_services


def _map_owners() -> dict[str, Service]:
    return {name: service for service in load_services() for name in service.projections}


def list_projections() -> None:
    print_table(
        "", ("read model", "service"), [(name, service.name) for name, service in sorted(_map_owners().items())]
    )


def rebuild_projection(name: str) -> None:
    owners = _map_owners()
    if name not in owners:
        exit_with_error(f"no projection {name}; there are: {', '.join(sorted(owners))}")
    telemetry.configure_logs("warning", "text")
    result = read_backends(_run_rebuild(owners[name], name))
    print_line(
        f"{name}: {result.events} events, {result.rows} rows, "
        f"{'equal to the live one' if result.is_identical else 'the live one DIFFERED and was replaced'}"
    )
    raise typer.Exit(0 if result.is_identical else 1)


async def _run_rebuild(service: Service, name: str) -> RebuildResult:
    kernel_settings = load_kernel_settings()
    async with open_backends(kernel_settings, print_note) as backends:
        databases = {
            declared.name: await Database.open(declared.name, backends.get_database_url(declared.name), size=2)
            for declared in service.databases
        }
        try:
            async with record_rebuild(name, backends.redis_url, utc_now) as recorder:
                with show_spinner(f"{name}: reading events") as update_spinner:

                    def show_progress(count: int) -> None:
                        recorder.events = count
                        update_spinner(f"{name}: {count} events read")

                    result = await _rebuild(service, name, databases, kernel_settings, backends, show_progress)
                recorder.events = result.events
                recorder.state = "identical" if result.is_identical else "replaced"
            async with databases[service.databases[0].name].unit_of_work() as uow:
                record_audit(
                    uow,
                    "projection.rebuilt",
                    f"projection:{name}",
                    actor=OPERATOR,
                    events=result.events,
                    rows=result.rows,
                    same=result.is_identical,
                )
            return result
        finally:
            for database in databases.values():
                await database.close()


async def _rebuild(
    service: Service,
    name: str,
    databases: Mapping[str, Database],
    kernel_settings: Settings,
    backends: Backends,
    progress: Callable[[int], None],
) -> RebuildResult:
    model = service.projections[name]
    if not isinstance(model, ReadModel):
        return await model(databases, progress)
    try:
        async with open_topic_log(kernel_settings, backends, model.topics) as log:
            return await TopicRebuild(model, databases[service.databases[0].name], log, progress).run()
    except (LogTooShort, LogUnreadable) as error:
        exit_with_error(f"{name}: {error}")
