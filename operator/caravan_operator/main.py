"""The command `caravan-operator`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from caravan_operator.handlers.runtime import Options, operate
from caravan_operator.resources.__main__ import files
from caravan_operator.status import logs

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Kafka topics, RabbitMQ topology and service discovery from custom resources.",
)


@app.command()
def run(
    namespace: Annotated[
        list[str] | None, typer.Option("--namespace", "-n", help="Serve this namespace; may be repeated. Default: all of them.")
    ] = None,
    own_namespace: Annotated[str, typer.Option(envvar="POD_NAMESPACE", help="Where the Lease of the leader is.")] = "default",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of /healthz, /readyz and /metrics.")] = 8080,
    snapshots_port: Annotated[int, typer.Option(min=0, max=65535, help="Port where gateways ask for their routing snapshot.")] = 8081,
    sweep: Annotated[float, typer.Option(min=1, help="Seconds between two comparisons of everything with the brokers.")] = 300,
    deletion_wait: Annotated[
        float, typer.Option(min=0, help="Seconds that a deletion waits for a broker that is away; then the object stays.")
    ] = 600,
    lease: Annotated[float, typer.Option(min=3, max=120, help="Seconds after which a silent leader is replaced.")] = 15,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Watch the resources and keep the brokers as they say. Needs a service account, or KUBECONFIG; the CRDs must be installed (`caravan-operator crds`)."""
    logs.configure(log_level)
    asyncio.run(operate(Options(tuple(namespace or ()), own_namespace, port, snapshots_port, sweep, deletion_wait, lease)))


@app.command()
def crds(
    folder: Annotated[Path | None, typer.Option(help="Write a file per kind there. Default: print all of them.")] = None,
) -> None:
    """Print the CustomResourceDefinitions: `caravan-operator crds | kubectl apply --server-side -f -`."""
    found = {path.partition("/")[2]: content for path, content in files().items() if path.startswith("crds/")}
    if folder is None:
        typer.echo("---\n".join(found.values()), nl=False)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in found.items():
        (folder / name).write_text(content)
        typer.echo(f"wrote {folder / name}")


def main() -> None:
    app()
