"""The secret that a data folder keeps is made once, whole, however many processes start at once."""

import multiprocessing
import stat
from pathlib import Path

from caravan.runtime.startup import load_master_secret
from caravan.settings import Settings


def make(data: str) -> str:
    return load_master_secret(Settings(data=Path(data)))


def test_processes_that_start_at_once_read_the_same_whole_secret(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        found = pool.map(make, [str(tmp_path / str(n // 8)) for n in range(400)], chunksize=1)
    by_folder = [set(found[n : n + 8]) for n in range(0, 400, 8)]
    assert all(len(secrets) == 1 and len(min(secrets)) == 64 for secrets in by_folder)
    assert stat.S_IMODE((tmp_path / "0" / "secret").stat().st_mode) == 0o600
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == ["secret"]
