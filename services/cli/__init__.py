"""The command `caravan`: each command in a file of its own."""

import typer

from services.cli import demo, failures, importing, jobs, migrate, projections, replay, run, seed, status, topology, up

app = typer.Typer(
    name="caravan", help="An event-driven commerce backend. Start with `caravan up`.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.command()(up.up)
app.command()(run.run)
app.command()(migrate.migrate)
app.command()(seed.seed)
app.command()(demo.demo)
app.command("import")(importing.import_)
app.command()(replay.replay)
app.command()(status.status)
app.add_typer(projections.app, name="projections")
app.add_typer(failures.app, name="failures")
app.add_typer(jobs.app, name="jobs")
app.add_typer(topology.app, name="topology")
