"""The tools that speak to a cluster, as commands: docker, kind, helm, kubectl."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    def get(self, *what: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", *what, "--output", "json"))
        return found

    def secret(self, name: str, key: str) -> str:
        return self.kubectl(
            "get", "secret", name, "--output", f'go-template={{{{index .data "{key}" | base64decode}}}}'
        )

    def memory(self) -> dict[str, int]:
        """Working set of each pod of the namespace in MiB, as the nodes' kubelets count it."""
        used: dict[str, int] = {}
        for node in self.get("nodes")["items"]:
            stats = json.loads(
                self.kubectl("get", "--raw", f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary")
            )
            for pod in stats["pods"]:
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
