"""The command `caravan`: each command in a file of its own, loaded when it is the one that was asked for."""

from importlib import import_module
from inspect import getdoc
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup


class Entry(NamedTuple):
    place: str
    """`module:name` of the function, or of the group of commands."""
    summary: str


COMMANDS = {
    "up": Entry("commands:up", "Start the whole shop on this machine, and show its events."),
    "run": Entry("commands:run", "Run some services, or all, in this process."),
    "migrate": Entry("commands:migrate", "Make and upgrade the databases of all services."),
    "seed": Entry("commands:seed", "Fill an empty shop with a small catalogue."),
    "demo": Entry("commands:demo", "Place an order as a new customer, and watch it."),
    "import": Entry("commands:import_", "Bring products, customers and stock of invoice files (CSV) into the shop."),
    "replay": Entry("commands:replay", "Place the invoices of such files as orders, and compare the books."),
    "status": Entry("commands:status", "Show who runs, what waits, what was given up."),
    "projections": Entry("groups:projections", "Read models: list them, build one anew from the events."),
    "failures": Entry("groups:failures", "Messages and jobs that were given up: look, redrive, discard."),
    "jobs": Entry("groups:jobs", "Background jobs and their queues: look, retry, promote, remove, pause."),
    "topology": Entry("groups:topology", "Topics and queues on the brokers: make them, show drift, print resources."),
}


class Commands(TyperGroup):
    """Lists the commands without loading any: the services behind them take seconds to import."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in COMMANDS else command, rest


def load(name: str) -> Any:
    """The command itself, with its options."""
    module, _, attribute = COMMANDS[name].place.partition(":")
    found = getattr(import_module(f"services.cli.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer()
        alone.command(name)(found)
        found = alone
    found.rich_markup_mode = None
    for info in found.registered_commands:  # the first sentence whole: a list that is cut says less than one that wraps
        info.short_help = (getdoc(info.callback) or "").partition("\n")[0]
    command = typer.main.get_command(found)
    command.name = name
    return command


app = typer.Typer(
    cls=Commands,
    name="caravan",
    help="An event-driven commerce backend. Start with `caravan up`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _list() -> None:
    for name, entry in COMMANDS.items():
        app.command(name, short_help=entry.summary)(lambda: None)


_list()
