"""The shop as a stranger meets it: a program on a port. `E2E_URL` (with E2E_ADMIN_PASSWORD) names a running one; otherwise it is started here, in one process,
and with a process per service."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.program import Program, one_process, process_per_service


@pytest.fixture(scope="session", params=["one process", "a process per service"])
async def program(request: pytest.FixtureRequest) -> AsyncIterator[Program]:
    if url := os.environ.get("E2E_URL"):
        if request.param != "one process":
            pytest.skip("E2E_URL names one shop; it is tested as it is")
        yield Program(url, Path(os.environ.get("CARAVAN_DATA", ".caravan")), [])
        return
    folder = Path(tempfile.mkdtemp(prefix="caravan-e2e-"))
    start = one_process if request.param == "one process" else process_per_service
    try:
        async with start(folder) as running:
            yield running
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, True)
