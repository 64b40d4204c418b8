"""Prometheus and Alertmanager as they are shipped, with the shop's processes as targets and a webhook of ours as every
receiver. Intervals, rules, durations and routes are those of observability/prometheus and observability/alertmanager.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2
import yaml

OBSERVABILITY = Path(__file__).parent.parent
START_SECONDS = 60
STOP_SECONDS = 30
ALERTMANAGER_NAMES = ("alertmanager", "prometheus-alertmanager")


class MissingProgram(Exception):
    """A program that the rehearsal needs is not on the PATH."""


def find_program(*names: str) -> str:
    for name in names:
        if path := shutil.which(name):
            return path
    raise MissingProgram(
        f"{names[0]} is not on the PATH: apt-get install prometheus prometheus-alertmanager, or unpack a release"
    )


def find_free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@dataclass
class Monitoring:
    """`with Monitoring(...) as monitoring:` runs both programs with all their data in `folder`.

    `targets`: host:port of what is read, by the name of its job.
    """

    folder: Path
    targets: Mapping[str, Sequence[str]]
    receiver_url: str
    url: str = ""
    alertmanager_url: str = ""
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        prometheus, alertmanager = find_program("prometheus"), find_program(*ALERTMANAGER_NAMES)
        ports = find_free_port(), find_free_port()
        self.url, self.alertmanager_url = (f"http://127.0.0.1:{port}" for port in ports)
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(OBSERVABILITY / "prometheus" / "rules", self.rules, dirs_exist_ok=True)
        self._write("alertmanager.yaml", self.build_alertmanager())
        self._write("prometheus.yaml", self.build_prometheus(ports))
        try:
            self._start(
                alertmanager,
                "--config.file=alertmanager.yaml",
                "--storage.path=alertmanager",
                f"--web.listen-address=127.0.0.1:{ports[1]}",
                "--cluster.listen-address=",
            )
            self._start(
                prometheus,
                "--config.file=prometheus.yaml",
                "--storage.tsdb.path=prometheus",
                f"--web.listen-address=127.0.0.1:{ports[0]}",
                "--enable-feature=exemplar-storage",
                "--web.enable-lifecycle",
            )
            for url in (self.url, self.alertmanager_url):
                self._wait_until_ready(url)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()

    @property
    def rules(self) -> Path:
        return self.folder / "rules"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of a query; each has `metric` and `value`."""
        answer = httpx2.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=30)
        answer.raise_for_status()
        samples: list[dict[str, Any]] = answer.json()["data"]["result"]
        return samples

    def list_firing(self) -> list[dict[str, str]]:
        """The labels of each alert that fires now."""
        answer = httpx2.get(f"{self.url}/api/v1/alerts", timeout=30)
        answer.raise_for_status()
        return [alert["labels"] for alert in answer.json()["data"]["alerts"] if alert["state"] == "firing"]

    def reload(self) -> None:
        """Have Prometheus read its configuration and rules again."""
        httpx2.post(f"{self.url}/-/reload", timeout=30).raise_for_status()

    def build_prometheus(self, ports: tuple[int, int]) -> dict[str, Any]:
        shipped = yaml.safe_load((OBSERVABILITY / "prometheus" / "prometheus.yaml").read_text())
        addresses = {
            **self.targets,
            "prometheus": [f"127.0.0.1:{ports[0]}"],
            "alertmanager": [f"127.0.0.1:{ports[1]}"],
        }
        return {
            "global": shipped["global"],
            "storage": shipped["storage"],
            "rule_files": [str(self.rules / "*.yaml")],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": addresses["alertmanager"]}]}]},
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": list(hosts)}]} for job, hosts in addresses.items()
            ],
        }

    def build_alertmanager(self) -> dict[str, Any]:
        shipped: dict[str, Any] = yaml.safe_load((OBSERVABILITY / "alertmanager" / "config.yaml").read_text())
        for receiver in shipped["receivers"]:
            for webhook in receiver["webhook_configs"]:
                del webhook["url_file"]
                webhook["url"] = f"{self.receiver_url}/{receiver['name']}"
        return shipped

    def _write(self, name: str, document: dict[str, Any]) -> None:
        (self.folder / name).write_text(yaml.safe_dump(document, sort_keys=False))

    def _start(self, program: str, *arguments: str) -> None:
        with open(self.folder / f"{Path(program).name}.log", "wb") as log:
            self._processes.append(
                subprocess.Popen([program, *arguments], cwd=self.folder, stdout=log, stderr=subprocess.STDOUT)
            )

    def _wait_until_ready(self, url: str) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            try:
                if httpx2.get(f"{url}/-/ready", timeout=5).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            if any(process.poll() is not None for process in self._processes):
                break
            time.sleep(0.2)
        texts = [path.read_text()[-2000:] for path in self.folder.glob("*.log")]
        raise SystemExit(f"{url} is not ready; the last words of both programs:\n" + "\n".join(texts))
