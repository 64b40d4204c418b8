"""`make e2e`: builds the images, installs operator, backends and shop on a Kubernetes cluster, and runs the end-to-end
tests through its ingress.

E2E_KUBECONFIG   use this cluster, and leave it; E2E_KIND_CLUSTER is its name if it is one of kind's (images are loaded
into it), E2E_INGRESS
                 and E2E_INGRESS_TLS the URLs of its ingress controller. Without it a kind cluster is made from
                 kind.yaml (KIND_NODE_IMAGE: with this node image).
E2E_BEFORE       the revision from which the shop is upgraded, and to which it returns (HEAD~1).
E2E_SIZE         `kind`, a pod per service (the default), `lite`, one pod, or `observability`: `kind` with the chart of
                 that name beside it, and its tests alone; parts whose image can't be had are left out by name.
KEEP=1           leave everything as it is at the end; the next run uses it.
"""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.e2e import observability
from tests.e2e.certificate import self_signed
from tests.e2e.cluster import ROOT, Cluster, Failed, missing, run
from tests.e2e.releases import HOST, Release, load, now

NAME = "caravan-e2e"
LOGS = ROOT / "build" / "e2e"
SHOP = "tests/e2e/test_orders_end_to_end.py tests/e2e/test_on_a_cluster.py tests/e2e/test_releases.py"
SUITES = {"kind": SHOP, "lite": SHOP, "observability": "tests/e2e/test_observability.py"}
TRAEFIK = Path(__file__).parent / "traefik.yaml"


@dataclass
class Trial:
    size: str
    kept: bool
    stages: list[tuple[str, float]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def release(self) -> Release:
        return now("lite" if self.size == "lite" else "kind")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        print(f"== {name}", flush=True)
        began = time.monotonic()
        try:
            yield
        finally:
            self.stages.append((name, time.monotonic() - began))
            print(f"   {name}: {self.stages[-1][1]:.0f} s", flush=True)


def main() -> int:
    trial = Trial(os.environ.get("E2E_SIZE", "kind"), bool(os.environ.get("KEEP")))
    if trial.size not in SUITES:
        print(f"E2E_SIZE={trial.size}: expected {', '.join(SUITES)}", file=sys.stderr)
        return 2
    given = os.environ.get("E2E_KUBECONFIG", "")
    lacking = missing(
        ["docker", "helm", "kubectl"]
        if given and not os.environ.get("E2E_KIND_CLUSTER")
        else ["docker", "kind", "helm", "kubectl"]
    )
    if lacking:
        print("\n".join(lacking), file=sys.stderr)
        return 2
    try:
        run("docker", "info")
        with ExitStack() as stack:
            return _tried(trial, stack, given)
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        print(f"== e2e ({trial.size}): " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in trial.stages))


def _tried(trial: Trial, stack: ExitStack, given: str) -> int:
    with trial.stage("cluster"):
        kubeconfig = given or stack.enter_context(_kind(trial.kept))
        name = os.environ.get("E2E_KIND_CLUSTER", "" if given else NAME)
        cluster = Cluster(kubeconfig, "shop")
    stack.callback(_leave, trial, cluster, bool(given))
    with trial.stage("build"):
        trial.release.build()
    with trial.stage("load images"):
        backends = (
            ""
            if trial.size == "lite"
            else run("helm", "template", "backends", "charts/backends", "--kube-version", "1.30.0")
        )
        _load(name, _named(backends) | set(trial.release.images.values()))
        if trial.size == "observability":
            trial.left_out += observability.find_left_out()
            print(f"   left out, no image: {', '.join(trial.left_out) or 'nothing'}")
            _load(name, {image for part, image in observability.list_images().items() if part not in trial.left_out})
    code = -1
    try:
        _install(trial, cluster)
        with trial.stage("ingress controller"):
            _ingress(cluster, name)
        code = _test(trial, cluster, stack, name, address_of_kind=not given)
    finally:
        if code:
            cluster.collect(LOGS)
            if trial.size == "observability":
                Cluster(cluster.kubeconfig, observability.NAMESPACE).collect(LOGS / observability.NAMESPACE)
            print(f"logs, objects and events are in {LOGS.relative_to(ROOT)}/")
    return code


@contextmanager
def _kind(kept: bool) -> Iterator[str]:
    """A kind cluster's kubeconfig; the cluster of an earlier KEEP=1 is used again."""
    with tempfile.TemporaryDirectory(prefix="caravan-e2e-") as folder:
        kubeconfig = f"{folder}/kubeconfig"
        if NAME in run("kind", "get", "clusters").split():
            run("kind", "export", "kubeconfig", "--name", NAME, "--kubeconfig", kubeconfig)
        else:
            image = os.environ.get("KIND_NODE_IMAGE")
            selected = ["--image", image] if image else []
            config = str(Path(__file__).parent / "kind.yaml")
            run(
                "kind",
                "create",
                "cluster",
                "--name",
                NAME,
                "--config",
                config,
                "--kubeconfig",
                kubeconfig,
                "--wait",
                "120s",
                *selected,
            )
        try:
            yield kubeconfig
        finally:
            if not kept:
                run("kind", "delete", "cluster", "--name", NAME)


def _leave(trial: Trial, cluster: Cluster, given: bool) -> None:
    """A cluster that isn't ours gets its namespace back; one of ours goes as a whole."""
    if given and not trial.kept:
        with trial.stage("uninstall"):
            for release in ("shop", "operator", "backends"):
                cluster.helm("uninstall", release, "--ignore-not-found", "--wait")
            asyncio.run(cluster.delete_namespace())
            if trial.size == "observability":
                stores = Cluster(cluster.kubeconfig, observability.NAMESPACE)
                stores.helm("uninstall", "observability", "--ignore-not-found", "--wait")
                asyncio.run(stores.delete_namespace())


def _named(manifests: str) -> set[str]:
    """The images that manifests name."""
    return {
        container["image"]
        for document in yaml.safe_load_all(manifests)
        if document and document["kind"] in ("Deployment", "StatefulSet")
        for container in document["spec"]["template"]["spec"]["containers"]
    }


def _load(name: str, images: set[str]) -> None:
    if loaded := load(name, images):
        print(f"   {', '.join(loaded)}")


def _ingress(cluster: Cluster, name: str) -> None:
    if asyncio.run(cluster.has_ingress_controller()):
        return
    traefik = Cluster(cluster.kubeconfig, "traefik")
    _load(name, _named(TRAEFIK.read_text()))
    traefik.kubectl("apply", "--filename", str(TRAEFIK))
    traefik.kubectl("rollout", "status", "deployment/traefik", "--timeout", "180s", seconds=200)


def _install(trial: Trial, cluster: Cluster) -> None:
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": cluster.namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    asyncio.run(cluster.apply(namespace))
    certificate, key = self_signed(HOST)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "shop-tls"},
        "stringData": {"tls.crt": certificate, "tls.key": key},
    }
    asyncio.run(cluster.apply(secret))
    more: list[str] = []
    if trial.size == "observability":
        with trial.stage("observability"):
            observability.install(cluster, trial.release.images["caravan"], trial.left_out)
        more = observability.send_telemetry(trial.left_out)
    if trial.size != "lite":
        with trial.stage("operator"):
            trial.release.operator(cluster, *more)
        with trial.stage("backends"):
            trial.release.backends(cluster)
    with trial.stage("shop"):
        trial.release.shop(cluster, *more)


def _test(trial: Trial, cluster: Cluster, stack: ExitStack, name: str, *, address_of_kind: bool) -> int:
    node = f"{name}-control-plane" if address_of_kind else ""
    environment = {
        "E2E_URL": _address(cluster, node, "E2E_INGRESS", 30080),
        "E2E_TLS": _address(cluster, node, "E2E_INGRESS_TLS", 30443),
        "E2E_HOST": HOST,
        "E2E_SECRET": asyncio.run(cluster.read_secret("caravan-secrets", "CARAVAN_SECRET")),
        "E2E_CLUSTER": cluster.kubeconfig,
        "E2E_NAMESPACE": cluster.namespace,
        "E2E_SIZE": trial.size,
        "E2E_KIND_CLUSTER": name,
    }
    if trial.size != "lite":
        environment["E2E_MAILBOX"] = stack.enter_context(_forwarded(cluster, "service/backends-mail", 1080))
    if trial.size == "observability":
        environment["E2E_LEFT_OUT"] = " ".join(trial.left_out)
        stores = Cluster(cluster.kubeconfig, observability.NAMESPACE)
        for part in observability.PORTS.keys() - trial.left_out:
            target = f"service/observability-{part}"
            environment[f"E2E_{part.upper()}"] = stack.enter_context(
                _forwarded(stores, target, observability.PORTS[part])
            )
    with trial.stage("tests"):
        selected = os.environ.get("E2E_TESTS", SUITES[trial.size]).split()
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n0",
            "-r",
            "fEXs",
            "--durations=12",
            "-o",
            "faulthandler_timeout=900",
            *selected,
        ]
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False).returncode
    used = asyncio.run(cluster.measure_memory())
    print(
        "== memory: "
        + ", ".join(f"{pod} {mib} MiB" for pod, mib in sorted(used.items()))
        + f"; together {sum(used.values())} MiB"
    )
    return code


def _address(cluster: Cluster, node: str, variable: str, port: int) -> str:
    """Where the ingress controller listens, from this machine."""
    if given := os.environ.get(variable):
        return given
    if node:
        return f"http://{run('docker', 'port', node, str(port)).split()[0]}"
    status = asyncio.run(cluster.read_node()).status
    addresses = (status and status.addresses) or ()
    return f"http://{next(entry.address for entry in addresses if entry.type == 'InternalIP')}:{port}"


@contextmanager
def _forwarded(cluster: Cluster, target: str, port: int) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        local = free.getsockname()[1]
    command = [
        "kubectl",
        "--kubeconfig",
        cluster.kubeconfig,
        "--namespace",
        cluster.namespace,
        "port-forward",
        target,
        f"{local}:{port}",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as forwarding:
        try:
            yield f"http://127.0.0.1:{local}"
        finally:
            forwarding.terminate()


if __name__ == "__main__":
    raise SystemExit(main())
