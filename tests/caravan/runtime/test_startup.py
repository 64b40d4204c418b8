"""Before a process runs: the secret of the data folder, made once and whole, and the wait for the backends."""

import asyncio
import multiprocessing
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import CapturingLogger

from caravan.bus.topology import NotDeclared, ObjectRef
from caravan.database.migrations import NotMigrated
from caravan.runtime import startup
from caravan.runtime.startup import (
    StartTimeout,
    explain_unavailable,
    load_master_secret,
    open_backends,
    retry_until_available,
)
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


def fail_times(errors: list[Exception]) -> Callable[[], Awaitable[str]]:
    async def act() -> str:
        if errors:
            raise errors.pop(0)
        return "done"

    return act


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two attempts lies no time."""
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda _: sleep(0))


async def test_what_is_unavailable_is_waited_for_and_each_reason_announced_once() -> None:
    announcements: list[str] = []
    errors = [ConnectionRefusedError("no database"), ConnectionRefusedError("no database"), NotMigrated("no tables")]
    act = fail_times(errors)
    assert await retry_until_available(act, Settings(start_seconds=60), announcements.append) == "done"
    assert announcements == ["waiting: no database", "waiting: no tables"]


async def test_after_its_time_it_gives_up_with_the_reason_and_what_to_do() -> None:
    act = fail_times([NotMigrated("no tables")] * 100_000)
    with pytest.raises(StartTimeout, match=r"gave up after 0.01 s: no tables; run `caravan migrate`"):
        await retry_until_available(act, Settings(start_seconds=0.01), lambda _: None)


async def test_any_other_error_is_no_reason_to_wait() -> None:
    with pytest.raises(ZeroDivisionError):
        await retry_until_available(fail_times([ZeroDivisionError()]), Settings(), lambda _: None)


def test_what_to_do_fits_what_is_missing() -> None:
    assert explain_unavailable(NotDeclared([ObjectRef("topic", "t")])).endswith("; run one of them")
    assert explain_unavailable(TimeoutError()) == "TimeoutError; start it, or correct its URL"


async def test_servers_that_the_settings_name_are_used_and_none_is_started(tmp_path: Path) -> None:
    urls = {
        "database_url": "postgresql://u:p@db/postgres",
        "redis_url": "redis://cache/0",
        "jobs_redis_url": "redis://jobs/0",
    }
    kernel_settings = Settings(data=tmp_path / "data", secret="s" * 40, **urls)  # type: ignore[arg-type]  # as text
    async with open_backends(kernel_settings, lambda _: None) as backends:
        assert (backends.database_url, backends.redis_url, backends.jobs_redis_url, backends.secret) == (
            *urls.values(),
            "s" * 40,
        )
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("mode", "count"), [("require without a CA", 1), ("prefer", 1), ("disable", 0), ("verify-full", 0)]
)
async def test_a_postgres_that_nobody_verifies_is_warned_of(
    mode: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = CapturingLogger()
    monkeypatch.setattr(startup, "log", logger)
    settings = Settings(
        data=tmp_path,
        database_url=SecretStr(f"postgresql://db/postgres?sslmode={mode.split(maxsplit=1)[0]}"),
        redis_url=SecretStr("redis://r"),
    )
    async with open_backends(settings, lambda _: None):
        pass
    warnings = [call.args[0] for call in logger.calls]
    assert len(warnings) == count
    assert all(f"CARAVAN_DATABASE_URL has sslmode={mode}, so nobody checks" in text for text in warnings)
