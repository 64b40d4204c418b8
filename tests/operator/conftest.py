"""Fixtures: a scripted API server, the operator's client of it, and a reconciler in memory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from caravan_operator.backends.kubernetes import Kubernetes

from tests.operator.api_script import Script
from tests.operator.reconciler_lab import Lab


@pytest.fixture
async def server() -> AsyncIterator[Script]:
    script = Script()
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", script)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    script.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield script
    await runner.cleanup()


@pytest.fixture
async def kubernetes(server: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kubernetes]:
    config = {
        "current-context": "script",
        "contexts": [{"name": "script", "context": {"cluster": "script", "user": "script"}}],
        "clusters": [{"name": "script", "cluster": {"server": server.url}}],
        "users": [{"name": "script", "user": {"token": "first"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    api = Kubernetes()
    yield api
    await api.close()


@pytest.fixture
def lab() -> Lab:
    return Lab()
