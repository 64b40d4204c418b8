"""Fixtures `kafka`, `rabbitmq` and `vhost`, and the last lines of a run: which backends it used, and what was left
out, by name.
"""

import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import httpx2
import orjson
import psutil
import pytest

from caravan.clock import new_id
from tests.support.backends import RUN_FOLDER, Broker, Unavailable, broker

STOP_SECONDS = 30


@pytest.fixture(scope="session")
def kafka() -> Broker:
    return _or_skip("kafka")


@pytest.fixture(scope="session")
def rabbitmq() -> Broker:
    return _or_skip("rabbitmq")


@pytest.fixture
async def vhost(rabbitmq: Broker) -> AsyncIterator[Broker]:
    """A virtual host of its own: nothing in it is foreign."""
    name = f"test-{new_id()}"
    async with httpx2.AsyncClient(base_url=rabbitmq.management_url) as management:
        (await management.put(f"/api/vhosts/{name}")).raise_for_status()
        yield replace(rabbitmq, url=rabbitmq.url.rstrip("/") + f"/{name}")
        await management.delete(f"/api/vhosts/{name}")


def _or_skip(name: str) -> Broker:
    try:
        return broker(name)
    except Unavailable as reason:
        pytest.skip(f"no {name}: {reason}")


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    if not _is_worker(config):
        os.environ[RUN_FOLDER] = tempfile.mkdtemp(prefix="caravan-tests-")
        os.environ["TEST_RUN_PID"] = str(os.getpid())


def pytest_unconfigure(config: pytest.Config) -> None:
    if _is_worker(config):
        return
    folder = Path(os.environ.pop(RUN_FOLDER))
    (folder / "stop").touch()
    keepers = [
        psutil.Process(int(path.read_text()))
        for path in folder.glob("*.pid")
        if psutil.pid_exists(int(path.read_text()))
    ]
    psutil.wait_procs(keepers, STOP_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Only the process that collects knows these; with workers, each knows the same."""
    left = Path(os.environ[RUN_FOLDER]) / "deselected.json"
    if not left.exists():
        left.write_bytes(orjson.dumps([item.nodeid for item in items]))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    folder = Path(os.environ[RUN_FOLDER])
    if terminalreporter.config.option.collectonly:
        return
    terminalreporter.section("backends and what was left out")
    for line in [*_backends(folder), *_skipped(terminalreporter.stats.get("skipped", [])), *_deselected(folder)]:
        terminalreporter.write_line(line)


def _backends(folder: Path) -> Iterable[str]:
    yield "postgres, valkey: embedded, from wheels"
    for name in ("kafka", "rabbitmq"):
        state = folder / f"{name}.json"
        found = orjson.loads(state.read_bytes()) if state.exists() else {"unavailable": "no test asked for it"}
        yield f"{name}: {found['source']}" if "source" in found else f"{name}: NOT USED, {found['unavailable']}"


def _skipped(reports: Sequence[pytest.TestReport]) -> Iterable[str]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for report in reports:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")].append(report.nodeid)
    for reason, tests in reasons.items():
        yield f"skipped {len(tests)} tests, {reason}: {_names(tests)}"


def _deselected(folder: Path) -> Iterable[str]:
    left = folder / "deselected.json"
    if left.exists():
        tests = orjson.loads(left.read_bytes())
        yield f"not selected {len(tests)} tests (slow ones: make test-slow): {_names(tests)}"


def _names(nodeids: Sequence[str]) -> str:
    """`file: test, test` per file, a parametrised test once."""
    files: dict[str, list[str]] = defaultdict(list)
    for nodeid in nodeids:
        path, _, name = nodeid.partition("::")
        files[path].append(name.partition("[")[0].rpartition("::")[2])
    return "; ".join(f"{path}: {', '.join(dict.fromkeys(names))}" for path, names in files.items())
