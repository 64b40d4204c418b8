"""`caravan-operator import`: prints resources for what a running broker has, with adoptionPolicy IfEqual and
deletionPolicy Retain.
"""

import asyncio
from typing import Annotated

import typer
import yaml

from caravan_operator.backends.broker import BrokerUnavailable
from caravan_operator.commands.kafka_import import import_from_kafka
from caravan_operator.commands.rabbitmq_import import import_from_rabbitmq


def print_broker_resources(
    kafka: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Bootstrap server of a Kafka cluster.")] = None,
    rabbitmq: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Management API of a RabbitMQ cluster, such as http://rabbitmq:15672."),
    ] = None,
    connection: Annotated[
        str, typer.Option(help="Name of the connection that the resources will refer to.")
    ] = "broker",
    match: Annotated[str, typer.Option(help="Regular expression: only objects whose name matches.")] = "",
    vhost: Annotated[str, typer.Option(help="Virtual host of RabbitMQ.")] = "/",
    username: Annotated[str, typer.Option(envvar="BROKER_USERNAME", help="User, where the broker asks for one.")] = "",
    password: Annotated[
        str, typer.Option(envvar="BROKER_PASSWORD", help="Its password; better in the environment.")
    ] = "",
    mechanism: Annotated[str, typer.Option(help="Kafka's sasl.mechanism, with --username.")] = "PLAIN",
    tls: Annotated[bool, typer.Option("--tls", help="Connect to Kafka by TLS.")] = False,
) -> None:
    """Read a running broker and print resources that take over what it has, unchanged.

    Look at them, apply them with `mode: Plan` first, and see in status.plan that nothing would change:

      caravan-operator import --kafka kafka:9092 --connection kafka > topics.yaml
    """
    if (kafka is None) == (rabbitmq is None):
        raise typer.BadParameter("give one of --kafka and --rabbitmq")
    if kafka is not None:
        import_coroutine = import_from_kafka(kafka, connection, match, username, password, mechanism, tls)
    else:
        import_coroutine = import_from_rabbitmq(
            str(rabbitmq), connection, vhost, match, username or "guest", password or "guest"
        )
    try:
        documents, skipped = asyncio.run(import_coroutine)
    except BrokerUnavailable as error:
        typer.echo(f"{kafka or rabbitmq}: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(yaml.safe_dump_all(documents, sort_keys=False), nl=False)
    for line in skipped:
        typer.echo(f"left out: {line}", err=True)
    typer.echo(f"{len(documents)} resources, {len(skipped)} objects left out", err=True)
