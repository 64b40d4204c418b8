"""The chart `observability` beside the shop on the tests' cluster: what of it can be had here, and how to ask it."""

import asyncio
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import yaml

from tests.e2e.cluster import ROOT, Cluster

NAMESPACE = "observability"
CHART = "charts/observability"
VALUES = f"{CHART}/values-kind.yaml"
PORTS = {"prometheus": 9090, "alertmanager": 9093, "loki": 3100, "jaeger": 16686, "grafana": 3000}
PULL_SECONDS = 120
OTLP = f"http://observability-collector.{NAMESPACE}:4318"
NOWHERE = "http://left-out:4318"
RABBITMQ = ("exec", "backends-rabbitmq-0", "--", "rabbitmqctl", "--quiet")
RECEIVER = """
import http.server, json
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        told = json.loads(self.rfile.read(int(self.headers["content-length"])))
        for alert in told["alerts"]:
            print(f'{self.path} {alert["labels"]["alertname"]} {alert["status"]}\\n', end="", flush=True)
        self.send_response(200)
        self.end_headers()
http.server.ThreadingHTTPServer(("", 8080), Receiver).serve_forever()
"""


def list_images() -> dict[str, str]:
    """The image of each part."""
    values: dict[str, Any] = yaml.safe_load((ROOT / CHART / "values.yaml").read_text())
    return {part: values[part]["image"] for part in (*PORTS, "collector")}


def find_left_out() -> list[str]:
    """The parts whose images neither this machine's engine nor a registry has."""
    return [part for part, image in list_images().items() if not _is_had(image)]


def _is_had(image: str) -> bool:
    inspect = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False)
    if inspect.returncode == 0:
        return True
    try:
        pull = subprocess.run(["docker", "pull", image], capture_output=True, check=False, timeout=PULL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return pull.returncode == 0


def install(cluster: Cluster, shop_image: str, left_out: Sequence[str]) -> None:
    """With a receiver of alerts, which prints what it is told."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    _apply(cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    for document in _build_receiver(shop_image):
        _apply(cluster, document)
    off = {f"{part}.enabled": "false" for part in left_out}
    settings = {
        **off,
        "namespaces": f"{{{cluster.namespace}}}",
        "alertmanager.receivers.secret": "alert-receivers",
        "networkPolicy.receivers[0].ports[0].port": "8080",
        "prometheus.scrapeSeconds": "5",
        "collector.tracesKept": "100",
        **({"collector.tracesEndpoint": NOWHERE} if "jaeger" in left_out else {}),
        **({"collector.logsEndpoint": NOWHERE} if "loki" in left_out else {}),
    }
    options = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command = ("upgrade", "--install", "--wait", "--timeout", "8m", "observability", CHART, "--values", VALUES)
    Cluster(cluster.kubeconfig, NAMESPACE).helm(*command, *options)


def _apply(cluster: Cluster, document: dict[str, Any]) -> None:
    Cluster(cluster.kubeconfig, NAMESPACE).kubectl("apply", "--filename", "-", stdin=json.dumps(document))


def _build_receiver(image: str) -> list[dict[str, Any]]:
    labels = {"app.kubernetes.io/name": "receiver"}
    hooks = {name: f"http://receiver:8080/{name}" for name in ("page", "ticket", "heartbeat")}
    container = {
        "name": "receiver",
        "image": image,
        "command": ["python", "-c", RECEIVER],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "automountServiceAccountToken": False,
        "containers": [container],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "alert-receivers"},
            "stringData": hooks,
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "receiver"},
            "spec": {"selector": labels, "ports": [{"port": 8080}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "receiver"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
    ]


def send_telemetry(left_out: Sequence[str]) -> list[str]:
    """More of the options of the charts of shop and operator."""
    return [] if "collector" in left_out else ["--set", f"telemetry.otlpEndpoint={OTLP}"]


async def remove_policies(cluster: Cluster) -> None:
    """Some of the queues', as somebody would by hand: the operator finds it and sets them back."""
    for number in range(1, 5):
        policy = f"caravan.queue.payments.expect.retry.{number}"
        await asyncio.to_thread(cluster.kubectl, *RABBITMQ, "clear_policy", policy)


@dataclass(frozen=True)
class Stores:
    """The stores of the chart, by the address of each; one that is left out has none."""

    addresses: dict[str, str]

    def has(self, part: str) -> bool:
        return part in self.addresses

    async def _ask(self, part: str, path: str, **params: str | int) -> Any:
        async with httpx2.AsyncClient(base_url=self.addresses[part], timeout=30) as client:
            answer = await client.get(path, params=params)
        assert answer.status_code == 200, f"{part} {path} {params}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    async def measure(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series."""
        found = (await self._ask("prometheus", "/api/v1/query", query=query))["data"]["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    async def list_rules(self) -> list[dict[str, Any]]:
        groups = (await self._ask("prometheus", "/api/v1/rules"))["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def list_targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._ask("prometheus", "/api/v1/targets", state="active"))["data"][
            "activeTargets"
        ]
        return found

    async def read_logs(self, query: str) -> list[tuple[dict[str, str], str]]:
        """Labels and text of each line of the last hour."""
        found = await self._ask("loki", "/loki/api/v1/query_range", query=query, since="1h", limit=5000)
        return [(stream["stream"], line[1]) for stream in found["data"]["result"] for line in stream["values"]]

    async def list_streams(self) -> list[dict[str, str]]:
        """The labels of each stream."""
        found: list[dict[str, str]] = (
            await self._ask("loki", "/loki/api/v1/series", **{"match[]": '{service_namespace="caravan"}'})
        )["data"]
        return found

    async def list_traced_services(self) -> list[str]:
        found: list[str] = (await self._ask("jaeger", "/api/services"))["data"]
        return found

    async def find_trace(self, trace_id: str) -> list[tuple[str, str]]:
        """Service and name of each span."""
        async with httpx2.AsyncClient(base_url=self.addresses["jaeger"], timeout=30) as client:
            answer = await client.get(f"/api/traces/{trace_id}")
        if answer.status_code == 404:
            return []
        (trace,) = answer.json()["data"]
        services = {key: process["serviceName"] for key, process in trace["processes"].items()}
        return [(services[span["processID"]], span["operationName"]) for span in trace["spans"]]

    async def list_alerts(self) -> list[str]:
        found = await self._ask("alertmanager", "/api/v2/alerts")
        return [alert["labels"]["alertname"] for alert in found]

    async def list_notified(self) -> list[dict[str, str]]:
        """The labels of each alert that somebody is notified of: no other one says it already."""
        found = await self._ask("alertmanager", "/api/v2/alerts", active="true", inhibited="false", silenced="false")
        return [alert["labels"] for alert in found]

    async def list_firing(self) -> list[dict[str, str]]:
        """The labels of each alert that Prometheus sees fire."""
        found = (await self._ask("prometheus", "/api/v1/alerts"))["data"]["alerts"]
        return [alert["labels"] for alert in found if alert["state"] == "firing"]
