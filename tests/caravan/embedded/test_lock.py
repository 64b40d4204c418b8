"""Who uses a data folder: leases that end with their process, and one at a time who may change the servers."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from caravan.embedded import lock
from caravan.embedded.lock import AlreadyRunning, Lease, find_users, lock_servers, remove_dead_leases
from tests.caravan.embedded.folder_users import close_pipes, start_user


def test_a_folder_is_used_from_its_lease_until_the_release(tmp_path: Path) -> None:
    assert find_users(tmp_path) == []
    first, second = Lease(tmp_path), Lease(tmp_path)
    assert find_users(tmp_path) == [os.getpid()] * 2
    first.release()
    assert find_users(tmp_path) == [os.getpid()]
    second.release()
    assert find_users(tmp_path) == []
    assert list((tmp_path / "users").iterdir()) == []


def test_a_killed_process_is_no_user_and_its_lease_is_removed_and_no_other(tmp_path: Path) -> None:
    user, lease = start_user(tmp_path), Lease(tmp_path)
    try:
        assert sorted(find_users(tmp_path)) == sorted([user.pid, os.getpid()])
        user.kill()
        close_pipes(user)
        assert find_users(tmp_path) == [os.getpid()]
        (tmp_path / "users" / "notes.txt").touch()
        remove_dead_leases(tmp_path)
        assert len(list((tmp_path / "users").glob("*-*"))) == 1
        assert (tmp_path / "users" / "notes.txt").exists()
    finally:
        lease.release()


def test_a_server_that_outlives_its_starter_does_not_keep_the_lease(tmp_path: Path) -> None:
    lease = Lease(tmp_path)
    with subprocess.Popen(["sleep", "60"], close_fds=False) as server:
        lease.release()
        assert find_users(tmp_path) == []
        remove_dead_leases(tmp_path)
        server.kill()


async def test_one_at_a_time_changes_the_servers_and_who_waits_is_told_for_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_ANNOUNCE_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(lock, "_POLL_SECONDS", 0.005)
    announcements: list[str] = []
    is_reported, order = asyncio.Event(), list[str]()

    def announce(text: str) -> None:
        announcements.append(text)
        is_reported.set()

    async def come_second() -> None:
        async with lock_servers(tmp_path, announce):
            order.append("second")

    async with lock_servers(tmp_path, announce):
        waiting = asyncio.create_task(come_second())
        async with asyncio.timeout(5):
            await is_reported.wait()
        order.append("first")
    async with asyncio.timeout(5):
        await waiting
    assert order == ["first", "second"]
    assert announcements == [f"waiting for process {os.getpid()}, which is starting or stopping the servers"]


async def test_a_wait_that_takes_too_long_ends_with_who_is_in_the_way_and_what_to_do(tmp_path: Path) -> None:
    async with lock_servers(tmp_path, print):
        with pytest.raises(AlreadyRunning, match=rf"{tmp_path}: process {os.getpid()} has been .*CARAVAN_DATA="):
            async with lock_servers(tmp_path, print, seconds=0.01):
                raise AssertionError("both are in")
    async with lock_servers(tmp_path, print, seconds=0.01):
        pass


async def test_an_accident_inside_gives_the_right_back(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            async with lock_servers(tmp_path, print, seconds=0.0):
                raise ZeroDivisionError
