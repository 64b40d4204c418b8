"""`caravan faults`: its subcommands, with their options and help; `faults.py` does what they say."""

from typing import Annotated

import typer

from cli.options import Output

faults = typer.Typer(
    help=(
        "Faults that a running shop makes on purpose, to rehearse its alerts. Its processes must be started with "
        "CARAVAN_FAULTS=true; each fault ends by itself."
    ),
    no_args_is_help=True,
)


@faults.command("list")
def list_faults(output: Output = "table") -> None:
    """Every fault, what it does, and until when it is on."""
    from cli import faults as command

    command.list_faults(output)


@faults.command("on")
def switch_fault_on(
    name: Annotated[
        str,
        typer.Argument(help="Which one, or which one for what (consumer-stuck:analytics); see `caravan faults list`."),
    ],
    minutes: Annotated[int, typer.Option(min=1, max=120, help="After so many it ends by itself.")] = 15,
) -> None:
    """Switch a fault on in all processes that allow it; they do it within a second."""
    from cli import faults as command

    command.switch_fault_on(name, minutes)


@faults.command("off")
def switch_faults_off(
    names: Annotated[
        list[str] | None, typer.Argument(help="Which ones; all when left out.", show_default=False)
    ] = None,
) -> None:
    """Switch faults off; one without a target with all its targets."""
    from cli import faults as command

    command.switch_faults_off(names or [])
