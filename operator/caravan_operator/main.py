"""The command `caravan-operator`."""

import typer

from caravan_operator.commands.broker_import import print_broker_resources
from caravan_operator.commands.crds import print_crds
from caravan_operator.commands.run import watch_resources

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Kafka topics, RabbitMQ topology and service discovery from custom resources.",
)
app.command("run")(watch_resources)
app.command("crds")(print_crds)
app.command("import")(print_broker_resources)


def main() -> None:
    app()
