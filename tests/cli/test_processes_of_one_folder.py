"""Processes of their own on one laptop folder: whoever comes second joins, whoever leaves first hurts nobody."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from caravan import embedded
from caravan.embedded import paths, postgres, valkey

pytestmark = pytest.mark.slow


@pytest.fixture
def data() -> Iterator[Path]:
    """Not pytest's tmp_path: as root that is one which the servers' user can't reach."""
    folder = Path(tempfile.mkdtemp(prefix="caravan-test-"))
    yield folder
    shutil.rmtree(folder)


def run(service: str, data: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "CARAVAN_DATA": str(data), "CARAVAN_LOG_LEVEL": "warning"}
    command = [sys.executable, "-c", "from cli.__main__ import main; main()", "run", service]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def address_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "listening on" in line:
            return line.split()[-1]
    raise AssertionError("".join(lines))


def test_two_services_started_at_once_share_the_servers_until_the_last_has_ended(data: Path) -> None:
    processes = [run(service, data) for service in ("catalog", "inventory")]
    try:
        addresses = [address_of(process) for process in processes]
        processes[0].send_signal(signal.SIGINT)
        processes[0].wait(60)
        answer = httpx2.get(f"{addresses[1]}/v1/stock/NOBODY", timeout=10)
        assert answer.status_code == 404, answer.text
        assert embedded.find_users(data) == [processes[1].pid]
        third = run("catalog", data)
        processes.append(third)
        answer = httpx2.get(f"{address_of(third)}/v1/products", timeout=10)
        assert answer.status_code == 200, answer.text
        processes[1].kill()
        processes[1].wait()
        third.send_signal(signal.SIGINT)
        third.wait(60)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdout
            process.stdout.close()
    where = paths.find_paths(data)
    assert not postgres.find_running(where)
    assert not valkey.find_running(where)
