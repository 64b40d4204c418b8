"""The shop as a stranger meets it: a program on a port. `E2E_URL` names a running one (E2E_HOST, E2E_SECRET, E2E_MAILBOX: see Program); otherwise it is started here: in one process,
with a process per service, and with a process per service on Kafka and RabbitMQ."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.backends import Unavailable
from tests.backends.shop import shop_brokers
from tests.program import Program, one_process, process_per_service

ONE, EACH, BROKERS = "one process", "a process per service", "a process per service on Kafka and RabbitMQ"


@pytest.fixture(scope="module", params=[ONE, EACH, BROKERS])
async def program(request: pytest.FixtureRequest) -> AsyncIterator[Program]:
    if url := os.environ.get("E2E_URL"):
        if request.param != ONE:
            pytest.skip("E2E_URL names one shop; it is tested as it is")
        data = Path(os.environ.get("CARAVAN_DATA", ".caravan"))
        given = {name: os.environ.get(f"E2E_{name.upper()}", "") for name in ("host", "secret", "mailbox")}
        found = Program(url, data, [], **given)
        yield found
        await found.stop()
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
        start = one_process if request.param == ONE else process_per_service
        yield await stack.enter_async_context(start(folder, **settings))
