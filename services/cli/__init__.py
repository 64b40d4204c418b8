"""The command `caravan`: each command in a file of its own."""

import typer

from services.cli import run, up

app = typer.Typer(
    name="caravan", help="An event-driven commerce backend. Start with `caravan up`.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.command()(up.up)
app.command()(run.run)
