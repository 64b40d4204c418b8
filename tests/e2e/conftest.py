"""The shop as a stranger meets it: a program on a port. `E2E_URL` names a running one (E2E_HOST, E2E_SECRET,
E2E_MAILBOX: see `given`); otherwise it is started here: in one process,
with a process per service, and with a process per service on Kafka and RabbitMQ."""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import httpx2
import pytest

from tests.e2e.cluster import Cluster
from tests.support.backends import Unavailable
from tests.support.backends.shop import shop_brokers
from tests.support.program import Program, decode_mail, run_one_process, run_process_per_service

KUBECONFIG, SIZE = os.environ.get("E2E_CLUSTER", ""), os.environ.get("E2E_SIZE", "")
needs_a_cluster = pytest.mark.skipif(not KUBECONFIG, reason="needs a cluster: make e2e")
per_service = pytest.mark.skipif(bool(KUBECONFIG) and SIZE != "kind", reason="E2E_SIZE=lite is one pod without brokers")
ONE, EACH, BROKERS = "one process", "a process per service", "a process per service on Kafka and RabbitMQ"


@asynccontextmanager
async def given(url: str) -> AsyncIterator[Program]:
    """The running shop that the environment names."""
    post = None
    if mailbox := os.environ.get("E2E_MAILBOX"):
        post = partial(_caught, mailbox)
    elif KUBECONFIG:
        post = partial(_in_the_pod, Cluster(KUBECONFIG, os.environ["E2E_NAMESPACE"]))
    data = Path(os.environ.get("CARAVAN_DATA", ".caravan"))
    found = Program(url, data, [], os.environ.get("E2E_HOST", ""), os.environ.get("E2E_SECRET", ""), post)
    yield found
    await found.stop()


async def _caught(mailbox: str) -> list[str]:
    """By a mail catcher."""
    async with httpx2.AsyncClient(base_url=mailbox) as client:
        return [f"{mail['subject']}\n{mail.get('text') or ''}" for mail in (await client.get("/api/email")).json()]


async def _in_the_pod(cluster: Cluster) -> list[str]:
    """As files, where the shop is one pod."""
    script = (
        "import pathlib, json; print(json.dumps([p.read_bytes().decode('latin-1') for p in "
        "pathlib.Path('/data/mail').glob('*.eml')]))"
    )
    printed = await asyncio.to_thread(cluster.kubectl, "exec", "deployment/shop-gateway", "--", "python", "-c", script)
    return [decode_mail(mail.encode("latin-1")) for mail in json.loads(printed)]


@pytest.fixture(scope="module", params=[ONE, EACH, BROKERS])
async def program(request: pytest.FixtureRequest) -> AsyncIterator[Program]:
    if url := os.environ.get("E2E_URL"):
        if request.param != ONE:
            pytest.skip("E2E_URL names one shop; it is tested as it is")
        async with given(url) as found:
            yield found
        return
    folder = Path(tempfile.mkdtemp(prefix="caravan-e2e-"))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, shutil.rmtree, folder, True)
        settings: dict[str, str] = {}
        if request.param == BROKERS:
            try:
                settings = await stack.enter_async_context(shop_brokers())
            except Unavailable as reason:
                pytest.skip(str(reason))
        if request.param == ONE:
            yield await stack.enter_async_context(run_one_process(folder, **settings))
        else:
            yield await stack.enter_async_context(run_process_per_service(folder, True, **settings))


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(KUBECONFIG, os.environ["E2E_NAMESPACE"])


@pytest.fixture(scope="module")
async def shop() -> AsyncIterator[Program]:
    """The one in the cluster: `program` without its other sizes."""
    async with given(os.environ["E2E_URL"]) as found:
        yield found
