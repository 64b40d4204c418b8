"""The shop that is rehearsed, in two processes: all services but recommendations, and that one, so that a process can
hang or end while the shop goes on. They run on a folder and ports of their own, with faults allowed. And the command
`caravan` as a runbook calls it.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx2

from caravan import embedded
from caravan.runtime import Backends
from observability.rehearsal.monitoring import find_free_port
from services.registry import SERVICES

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 180
STOP_SECONDS = 60
COMMAND_SECONDS = 120
SHOP, APART = "shop", "recommendations"


@dataclass
class RehearsedShop:
    """`with RehearsedShop(folder) as shop:` is ready to take orders."""

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=find_free_port)
    apart_port: int = field(default_factory=find_free_port)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        shim = self.folder / "bin" / "caravan"
        shim.parent.mkdir(exist_ok=True)
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli "$@"\n')
        shim.chmod(0o755)
        redis = self.folder / "bin" / "redis-cli"
        redis.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m observability.rehearsal.redis_command "$@"\n')
        redis.chmod(0o755)
        try:
            self.start(SHOP)
            self.start(APART)
            code, text = self.run_command("caravan seed")
            if code:
                raise SystemExit(f"the shop could not be filled: {text}")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        subprocess.run(
            [sys.executable, "-m", "caravan.embedded", "remove", str(self.folder / "shop")], cwd=ROOT, check=False
        )
        shutil.rmtree(self.folder / "shop", ignore_errors=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def targets(self) -> dict[str, list[str]]:
        """Where each process tells its metrics, by the name of its job."""
        return {SHOP: [f"127.0.0.1:{self.port}"], APART: [f"127.0.0.1:{self.apart_port}"]}

    def start(self, name: str) -> None:
        """The process `shop` or `recommendations`; returns when it is ready."""
        services = [APART] if name == APART else [service for service in SERVICES if service != APART]
        port = self.apart_port if name == APART else self.port
        log = self.folder / f"{name}.log"
        with open(log, "ab") as output:
            process = self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "cli", "run", *services],
                cwd=ROOT,
                env={**self._build_environment(), "CARAVAN_PORT": str(port)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and process.poll() is None:
            try:
                if httpx2.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.3)
        raise SystemExit(f"{name} did not start; its last words:\n{log.read_text()[-3000:]}")

    def stop(self, *names: str) -> None:
        """These processes, or all."""
        stopped = [self._processes[name] for name in reversed(names or list(self._processes))]
        for process in stopped:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in stopped:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()

    def send_signal(self, name: str, number: signal.Signals) -> None:
        self._processes[name].send_signal(number)

    @property
    def secret(self) -> str:
        return (self.folder / "shop" / "secret").read_text().strip()

    @property
    def servers(self) -> embedded.ServerUrls:
        """Its Postgres and Redis."""
        servers = embedded.find_running(self.folder / "shop")
        assert servers is not None
        return servers

    def find_database_url(self, database: str) -> str:
        """As the role that owns it."""
        return Backends(self.servers.database_url, self.servers.redis_url, self.secret).get_database_url(database)

    def run_command(self, command: str, variables: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run a line of a shell, in which `caravan` is this shop's, `$POSTGRES_URL` and `$REDIS_URL` its servers, with
        these variables; its exit code and what it wrote.
        """
        servers = embedded.find_running(self.folder / "shop")
        urls = {"POSTGRES_URL": servers.database_url, "REDIS_URL": servers.redis_url} if servers else {}
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=ROOT,
            env={**self._build_environment(), **urls, **(variables or {})},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def _build_environment(self) -> dict[str, str]:
        """The machine's, without settings of another shop."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("CARAVAN_")}
        return {
            **own,
            "PATH": f"{self.folder / 'bin'}:{own['PATH']}",
            "CARAVAN_DATA": str(self.folder / "shop"),
            "CARAVAN_PORT": str(self.port),
            "CARAVAN_FAULTS": "true",
            "GATEWAY_TRUSTED_PROXIES": "127.0.0.1/32",
            "GATEWAY_AUTH_PER_MINUTE": "100000",
            **self.settings,
        }
