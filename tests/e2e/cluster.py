"""A cluster as the end-to-end tests use it: what a user types is run as a command (docker, kind, helm, kubectl), what
the tests ask or change is a call of the API.
"""

import base64
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caravan_operator.resources import KINDS
from kubernetes.aio import client, config
from kubernetes.aio.dynamic import DynamicClient

from tests.support.shop import wait_until

ROOT = Path(__file__).parent.parent.parent
TOOLS = {
    "docker": "Docker Engine or Docker Desktop (docs.docker.com/engine/install)",
    "kind": "kind 0.24 or newer (kind.sigs.k8s.io)",
    "helm": "Helm 3.14 or newer (helm.sh)",
    "kubectl": "kubectl 1.30 or newer (kubernetes.io/docs/tasks/tools)",
}


class Failed(Exception):
    """A command ended with an error; the text has its last lines."""


def run(
    *command: str, seconds: float = 600, stdin: str | None = None, environment: dict[str, str] | None = None
) -> str:
    """What a command printed. Raises Failed."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command[:4])} ... did not end within {seconds:g} s") from None
    if done.returncode:
        raise Failed(f"{' '.join(command)[:300]}\nended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def missing(tools: Sequence[str]) -> list[str]:
    """What to install, a line each."""
    return [f"{tool} is not on the PATH: install {TOOLS[tool]}" for tool in tools if not shutil.which(tool)]


@dataclass(frozen=True)
class Cluster:
    """A namespace of a cluster."""

    kubeconfig: str
    namespace: str

    def kubectl(self, *arguments: str, seconds: float = 120, stdin: str | None = None) -> str:
        return run(
            "kubectl",
            "--kubeconfig",
            self.kubeconfig,
            "--namespace",
            self.namespace,
            *arguments,
            seconds=seconds,
            stdin=stdin,
        )

    def helm(self, *arguments: str, seconds: float = 900) -> str:
        return run("helm", "--kubeconfig", self.kubeconfig, "--namespace", self.namespace, *arguments, seconds=seconds)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[client.ApiClient]:
        """The API server. The classes of its groups are loaded when they are first named."""
        async with await config.new_client_from_config(self.kubeconfig, persist_config=False) as api:
            yield api

    async def read_namespace(self) -> client.V1Namespace:
        async with self.connect() as api:
            return await client.CoreV1Api(api).read_namespace(self.namespace)

    async def list_pods(self, labels: str = "", *, fields: str = "") -> list[client.V1Pod]:
        async with self.connect() as api:
            listed = await client.CoreV1Api(api).list_namespaced_pod(
                self.namespace, label_selector=labels or None, field_selector=fields or None
            )
        return listed.items

    async def read_node(self) -> client.V1Node:
        """The first."""
        async with self.connect() as api:
            return (await client.CoreV1Api(api).list_node()).items[0]

    async def list_custom_resources(self, kinds: Iterable[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async with self.connect() as api:
            for kind in (KINDS[name] for name in kinds):
                listed: Any = await client.CustomObjectsApi(api).list_namespaced_custom_object(
                    kind.group, kind.version, self.namespace, kind.plural
                )
                found += listed["items"]
        return found

    async def read_secret(self, name: str, key: str) -> str:
        async with self.connect() as api:
            secret = await client.CoreV1Api(api).read_namespaced_secret(name, self.namespace)
        return base64.b64decode((secret.data or {})[key]).decode()

    async def has_ingress_controller(self) -> bool:
        """One that the tests didn't bring."""
        async with self.connect() as api:
            classes = (await client.NetworkingV1Api(api).list_ingress_class()).items
            ours = (await client.CoreV1Api(api).list_namespace(field_selector="metadata.name=traefik")).items
        return bool(classes) and not ours

    async def scale(self, deployment: str, replicas: int) -> None:
        async with self.connect() as api:
            await client.AppsV1Api(api).patch_namespaced_deployment_scale(
                deployment, self.namespace, {"spec": {"replicas": replicas}}
            )

    async def apply(self, document: Mapping[str, Any]) -> None:
        """Make the object, or change it to this."""
        async with self.connect() as api:
            dynamic = await DynamicClient(api)
            kind = await dynamic.resources.get(api_version=document["apiVersion"], kind=document["kind"])
            await dynamic.server_side_apply(
                kind,
                body=dict(document),
                namespace=self.namespace if kind.namespaced else None,
                field_manager="e2e",
                force_conflicts=True,
            )

    async def run_pod(self, name: str, pod: client.V1Pod, *, seconds: float = 240) -> str:
        """What the pod has printed at its end; it is deleted then. Raises Failed when it has failed, with its log."""
        async with self.connect() as api:
            core = client.CoreV1Api(api)

            async def is_absent() -> bool:
                fields = f"metadata.name={name}"
                return not (await core.list_namespaced_pod(self.namespace, field_selector=fields)).items

            async def is_finished() -> bool:
                status = (await core.read_namespaced_pod(name, self.namespace)).status
                assert status is not None and status.phase in ("Succeeded", "Failed"), status
                return True

            if not await is_absent():
                await core.delete_namespaced_pod(name, self.namespace)
                await wait_until(is_absent, seconds=60, every=1)
            await core.create_namespaced_pod(self.namespace, pod)
            await wait_until(is_finished, seconds=seconds, every=1)
            printed: str = await core.read_namespaced_pod_log(name, self.namespace)
            finished = await core.read_namespaced_pod(name, self.namespace)
            await core.delete_namespaced_pod(name, self.namespace)
        if finished.status and finished.status.phase == "Failed":
            raise Failed(f"the pod {name} has failed:\n{printed[-3000:]}")
        return printed

    async def delete_namespace(self) -> None:
        async with self.connect() as api:
            core = client.CoreV1Api(api)

            async def is_absent() -> bool:
                fields = f"metadata.name={self.namespace}"
                return not (await core.list_namespace(field_selector=fields)).items

            if not await is_absent():
                await core.delete_namespace(self.namespace)
                await wait_until(is_absent, seconds=300, every=1)

    async def measure_memory(self) -> dict[str, int]:
        """Working set of each pod of the namespace in MiB, as the nodes' kubelets count it."""
        used: dict[str, int] = {}
        async with self.connect() as api:
            core = client.CoreV1Api(api)
            for node in (await core.list_node()).items:
                assert node.metadata is not None and node.metadata.name
                answer = await core.connect_get_node_proxy_with_path_without_preload_content(
                    node.metadata.name, "stats/summary"
                )
                for pod in (await answer.json())["pods"]:
                    if pod["podRef"]["namespace"] == self.namespace and "workingSetBytes" in pod.get("memory", {}):
                        used[pod["podRef"]["name"]] = pod["memory"]["workingSetBytes"] // 2**20
        return used

    def collect(self, folder: Path) -> None:
        """What happened, for whoever reads a failure: objects, events, and the log of every pod."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, arguments in {
            "pods.txt": ("get", "pods,jobs,services,ingresses,networkpolicies", "--output", "wide"),
            "describe.txt": ("describe", "pods"),
            "events.txt": ("get", "events", "--sort-by", ".lastTimestamp"),
            "messaging.txt": ("get", "caravan", "--output", "wide"),
        }.items():
            (folder / name).write_text(self._tried(*arguments))
        for pod in self._tried("get", "pods", "--output", "name").split():
            for kind in ("", "--previous"):
                text = self._tried("logs", pod, "--all-containers", "--tail", "2000", *filter(None, [kind]))
                (folder / f"{pod.rpartition('/')[2]}{kind}.log").write_text(text)

    def _tried(self, *arguments: str) -> str:
        try:
            return self.kubectl(*arguments)
        except Failed as error:
            return str(error)


def is_ready(resource: Mapping[str, Any]) -> bool:
    """Whether a custom resource is Ready."""
    conditions = (resource.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
