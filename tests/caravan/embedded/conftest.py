import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from caravan import embedded
from caravan.embedded import ServerUrls
from tests.caravan.embedded.embedded_servers import (
    SECRET,
    ignore_announcement,
)
from tests.support.new_cluster import place_cluster


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[tuple[Path, ServerUrls]]:
    folder = Path(tempfile.mkdtemp(prefix="caravan-test-"))
    await place_cluster(folder)
    async with embedded.start(folder, secret=SECRET, announce=ignore_announcement) as backends:
        yield folder, backends
    shutil.rmtree(folder)


@pytest.fixture
async def used_data(data: Path) -> Path:
    """With an empty database already."""
    await place_cluster(data)
    return data


@pytest.fixture
def data() -> Iterator[Path]:
    """Not pytest's tmp_path: as root that is one which the servers' user can't reach, a case with a test of its own."""
    folder = Path(tempfile.mkdtemp(prefix="caravan-test-"))
    yield folder
    asyncio.run(embedded.stop_orphans(folder))
    shutil.rmtree(folder)
