"""A real API server for the tests: resources are made, read, changed and deleted in a namespace of their own; the
operator runs as a process beside it.
"""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.resources import KINDS
from caravan_operator.resources.kinds import SERVERS_ANNOTATION

from tests.support.backends.ready import free_ports
from tests.support.shop import wait_until

MERGE_PATCH = "application/merge-patch+json"


class Namespace:
    """One namespace of the API server."""

    def __init__(self, kubernetes: Kubernetes, name: str) -> None:
        self.kubernetes = kubernetes
        self.name = name

    def build_path(self, kind: str, name: str = "") -> str:
        resource_kind = KINDS[kind]
        return f"/apis/{resource_kind.group}/{resource_kind.version}/namespaces/{self.name}/{resource_kind.plural}" + (
            f"/{name}" if name else ""
        )

    async def create_object(
        self,
        kind: str,
        name: str,
        spec: Mapping[str, Any],
        *,
        annotations: Mapping[str, str] | None = None,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        metadata = {"name": name, "annotations": dict(annotations or {})}
        body = {"apiVersion": KINDS[kind].api_version, "kind": kind, "metadata": metadata, "spec": spec}
        return await self.kubernetes.request("POST", self.build_path(kind) + ("?dryRun=All" if dry_run else ""), body)

    async def change_spec(
        self, kind: str, name: str, spec: Mapping[str, Any], *, dry_run: bool = False
    ) -> dict[str, Any]:
        path = self.build_path(kind, name) + ("?dryRun=All" if dry_run else "")
        return await self.kubernetes.request("PATCH", path, {"spec": spec}, content_type=MERGE_PATCH)

    async def set_annotations(self, kind: str, name: str, **annotations: str | None) -> None:
        prefixed = {f"messaging.caravan.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
        await self.kubernetes.request(
            "PATCH", self.build_path(kind, name), {"metadata": {"annotations": prefixed}}, content_type=MERGE_PATCH
        )

    async def get_object(self, kind: str, name: str) -> dict[str, Any]:
        return await self.kubernetes.get(self.build_path(kind, name))

    async def list_objects(self, kind: str) -> list[dict[str, Any]]:
        return list((await self.kubernetes.get(self.build_path(kind)))["items"])

    async def delete_object(self, kind: str, name: str) -> None:
        with suppress(ApiError):
            await self.kubernetes.request("DELETE", self.build_path(kind, name))

    async def has_object(self, kind: str, name: str) -> bool:
        try:
            await self.get_object(kind, name)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def wait_until_gone(self, kind: str, name: str, *, seconds: float = 20) -> None:
        async def is_absent() -> bool:
            return not await self.has_object(kind, name)

        await wait_until(is_absent, seconds=seconds, every=0.1)

    async def get_condition(self, kind: str, name: str, type: str = "Ready") -> dict[str, Any]:
        """The condition, or an empty one."""
        status = (await self.get_object(kind, name)).get("status", {})
        return next((each for each in status.get("conditions", ()) if each["type"] == type), {})

    async def wait_for_reason(
        self, kind: str, name: str, reason: str, *, type: str = "Ready", seconds: float = 20
    ) -> dict[str, Any]:
        """Wait until the condition has this reason at the present generation; returns the resource."""

        async def get_when_reached() -> dict[str, Any]:
            body = await self.get_object(kind, name)
            conditions = {each["type"]: each for each in body.get("status", {}).get("conditions", ())}
            current = conditions.get(type, {})
            assert current.get("reason") == reason, f"{kind} {name}: {current}"
            assert current["observedGeneration"] == body["metadata"]["generation"]
            return body

        return await wait_until(get_when_reached, seconds=seconds, every=0.1)

    async def wait_until_ready(self, kind: str, name: str, *, seconds: float = 20) -> dict[str, Any]:
        return await self.wait_for_reason(kind, name, "Ready", seconds=seconds)

    async def list_events(self, name: str) -> list[tuple[str, str]]:
        items = (await self.kubernetes.get(f"/api/v1/namespaces/{self.name}/events?limit=500"))["items"]
        return [(item["reason"], item["message"]) for item in items if item["involvedObject"]["name"] == name]

    async def put_secret(self, name: str, servers: str = "", **values: str) -> None:
        """`servers`: the addresses that a connection may use it at."""
        path = f"/api/v1/namespaces/{self.name}/secrets"
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "annotations": {SERVERS_ANNOTATION: servers}},
            "stringData": values,
        }
        try:
            await self.kubernetes.request("POST", path, body)
        except ApiError as error:
            if error.status != 409:
                raise
            await self.kubernetes.request("PATCH", f"{path}/{name}", {"stringData": values}, content_type=MERGE_PATCH)


class OperatorProcess:
    """The operator as a process of its own, as it runs in a pod."""

    def __init__(self, namespace: str, *options: str, kubeconfig: str | None = None) -> None:
        self.port, self.snapshots_port = free_ports(2)
        ports = ["--port", str(self.port), "--snapshots-port", str(self.snapshots_port)]
        self._arguments = ["run", "-n", namespace, "--own-namespace", namespace, *ports, "--lease", "6", *options]
        self._environment = {**os.environ, **({"KUBECONFIG": kubeconfig} if kubeconfig else {})}
        self._log_path = Path(tempfile.mkstemp(prefix="caravan-operator-", suffix=".log")[1])
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log_path.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                "from caravan_operator.main import main; main()",
                *self._arguments,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def keep_running(self) -> None:
        """Start it, and again whenever it ends, as the kubelet does."""
        while True:
            await self.start()
            assert self.process is not None
            await self.process.wait()

    def send_signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.send_signal(signal.SIGKILL)
            await self.process.wait()

    async def stop(self, *, seconds: float = 20) -> int:
        """SIGTERM, as the kubelet sends it; returns the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(seconds):
                    await self.process.wait()
            except TimeoutError:
                await self.kill()
        self._log_path.unlink(missing_ok=True)
        return self.process.returncode or 0

    async def get_probe(self, probe: str) -> tuple[int, str]:
        """Status and text of `readyz`, `healthz` or `metrics`; (0, "") while nobody listens."""
        try:
            async with (
                aiohttp.ClientSession() as client,
                client.get(f"http://127.0.0.1:{self.port}/{probe}") as response,
            ):
                return response.status, await response.text()
        except aiohttp.ClientError:
            return 0, ""

    def read_log(self) -> str:
        return self._log_path.read_text()
