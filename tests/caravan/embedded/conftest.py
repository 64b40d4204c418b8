import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from caravan import embedded


@pytest.fixture
def data() -> Iterator[Path]:
    """Not pytest's tmp_path: as root that is one which the servers' user can't reach, a case with a test of its own."""
    folder = Path(tempfile.mkdtemp(prefix="caravan-test-"))
    yield folder
    asyncio.run(embedded.stop_orphans(folder))
    shutil.rmtree(folder)
