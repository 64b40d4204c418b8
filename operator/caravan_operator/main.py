"""The command `caravan-operator`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
import yaml

from caravan_operator.backends.broker import BrokerUnavailable
from caravan_operator.controller.broker_import import import_from_kafka, import_from_rabbitmq
from caravan_operator.controller.runtime import Options, run_operator
from caravan_operator.resources.__main__ import render_files
from caravan_operator.status import logs, traces

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Kafka topics, RabbitMQ topology and service discovery from custom resources.",
)


@app.command()
def run(
    namespace: Annotated[
        list[str] | None,
        typer.Option("--namespace", "-n", help="Serve this namespace; may be repeated. Default: all of them."),
    ] = None,
    own_namespace: Annotated[
        str, typer.Option(envvar="POD_NAMESPACE", help="Where the Lease of the leader is.")
    ] = "default",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of /healthz, /readyz and /metrics.")] = 8080,
    snapshots_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port where gateways ask for their routing snapshot.")
    ] = 8081,
    sweep: Annotated[
        float, typer.Option(min=1, help="Seconds between two comparisons of everything with the brokers.")
    ] = 300,
    deletion_wait: Annotated[
        float,
        typer.Option(min=0, help="Seconds that a deletion waits for an unavailable broker; then the object stays."),
    ] = 600,
    lease: Annotated[float, typer.Option(min=3, max=120, help="Seconds after which a silent leader is replaced.")] = 15,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Watch the resources and keep the brokers as they say. Needs a service account, or KUBECONFIG; the CRDs must be
    installed (`caravan-operator crds`).
    """
    logs.configure_logging(log_level)
    traces.configure_tracing()
    asyncio.run(
        run_operator(Options(tuple(namespace or ()), own_namespace, port, snapshots_port, sweep, deletion_wait, lease))
    )


@app.command()
def crds(
    folder: Annotated[
        Path | None, typer.Option(help="Write a file per kind there. Default: print all of them.")
    ] = None,
) -> None:
    """Print the CustomResourceDefinitions: `caravan-operator crds | kubectl apply --server-side -f -`."""
    contents = {path.partition("/")[2]: content for path, content in render_files().items() if path.startswith("crds/")}
    if folder is None:
        typer.echo("---\n".join(contents.values()), nl=False)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(content)
        typer.echo(f"wrote {folder / name}")


@app.command(name="import")
def import_(
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


def main() -> None:
    app()
