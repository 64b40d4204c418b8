"""A test run that dies leaves no broker behind."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.backends import ROOT
from tests.support.shop import wait_until


@pytest.mark.slow
async def test_a_killed_run_leaves_no_broker_and_no_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    code = (
        "from tests.support.backends import broker; print(broker('kafka').url, flush=True); import time; "
        "time.sleep(600)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TEST_KAFKA_URL"}
    with subprocess.Popen(
        [sys.executable, "-c", f"import os; os.environ['TEST_RUN_PID'] = str(os.getpid()); {code}"],
        cwd=ROOT,
        env={**environment, "TEST_RUN_FOLDER": str(run)},
        stdout=subprocess.PIPE,
        text=True,
    ) as killed:
        assert killed.stdout is not None
        url = killed.stdout.readline().strip()
        if not url:
            pytest.skip("no Kafka can be had here")
        keeper = psutil.Process(int((run / "kafka.pid").read_text()))
        killed.send_signal(signal.SIGKILL)

    async def gone() -> bool:
        return not run.exists() and not (keeper.is_running() and keeper.status() != psutil.STATUS_ZOMBIE)

    await wait_until(gone, seconds=40, every=0.2)
    host, _, port = url.partition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=1)
