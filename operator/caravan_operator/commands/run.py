"""`caravan-operator run`: the operator itself."""

import asyncio
from typing import Annotated

import typer

from caravan_operator.controller.runtime import Options, run_operator
from caravan_operator.resources import KINDS
from caravan_operator.status import logs, metrics, traces


def watch_resources(
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
    metrics.initialize_counters(KINDS)
    asyncio.run(
        run_operator(Options(tuple(namespace or ()), own_namespace, port, snapshots_port, sweep, deletion_wait, lease))
    )
