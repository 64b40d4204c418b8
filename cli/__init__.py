"""The command `caravan`: each command in a file of its own, loaded when it is the one that was asked for."""

from importlib import import_module
from inspect import getdoc
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup


class CommandEntry(NamedTuple):
    import_path: str
    """`module:name` of the function, or of the group of commands."""
    summary: str


COMMANDS = {
    "up": CommandEntry("commands:up", "Start the whole shop on this machine, and show its events."),
    "run": CommandEntry("commands:run", "Run some services, or all, in this process."),
    "migrate": CommandEntry("commands:migrate", "Make and upgrade the databases of all services."),
    "seed": CommandEntry("commands:seed", "Fill an empty shop with a small catalogue."),
    "demo": CommandEntry("commands:demo", "Place an order as a new customer, and watch it."),
    "import": CommandEntry("commands:import_", "Import products, customers and stock of invoice files (CSV)."),
    "replay": CommandEntry("commands:replay", "Place the invoices of such files as orders, and compare the books."),
    "status": CommandEntry("commands:status", "Show who runs, what waits, what was given up."),
    "reconcile": CommandEntry("commands:reconcile", "Compare the books of all services, and repair what can be."),
    "projections": CommandEntry("groups:projections", "Read models: list them, build one anew from the events."),
    "cache": CommandEntry("commands:cache", "What is kept in the shared cache, and what voids it."),
    "orders": CommandEntry("groups:orders", "One order: its timeline, and its events folded step by step."),
    "failures": CommandEntry("groups:failures", "Messages and jobs that were given up: look, redrive, discard."),
    "jobs": CommandEntry("groups:jobs", "Background jobs and their queues: look, retry, promote, remove, pause."),
    "faults": CommandEntry("fault_commands:faults", "Faults that are switched on to rehearse alerts: list, on, off."),
    "topology": CommandEntry(
        "groups:topology", "Topics and queues on the brokers: make them, show drift, print resources."
    ),
}


class LazyCommandGroup(TyperGroup):
    """Lists the commands without loading any: the services behind them take seconds to import."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name in COMMANDS else command, rest


def load_command(name: str) -> Any:
    """The command itself, with its options."""
    module, _, attribute = COMMANDS[name].import_path.partition(":")
    target = getattr(import_module(f"cli.{module}"), attribute)
    if not isinstance(target, typer.Typer):
        group = typer.Typer()
        group.command(name)(target)
        target = group
    target.rich_markup_mode = None
    # The first paragraph whole: a list that is cut says less than one that wraps.
    for info in target.registered_commands:
        info.short_help = " ".join((getdoc(info.callback) or "").partition("\n\n")[0].split())
    command = typer.main.get_command(target)
    command.name = name
    return command


app = typer.Typer(
    cls=LazyCommandGroup,
    name="caravan",
    help="An event-driven commerce backend. Start with `caravan up`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _register_commands() -> None:
    for name, entry in COMMANDS.items():
        app.command(name, short_help=entry.summary)(lambda: None)


_register_commands()
