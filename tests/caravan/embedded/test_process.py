"""Server processes: started with nothing of ours, told from others by name and folder, stopped with a deadline."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from caravan.embedded import process
from caravan.embedded.paths import ServerPaths
from caravan.embedded.process import (
    Server,
    choose_port,
    find_server_process,
    is_alive,
    is_stale,
    open_log,
    run_command,
    spawn_process,
    tail_log,
)


@pytest.fixture
def paths(tmp_path: Path) -> ServerPaths:
    return ServerPaths(home=tmp_path, logs=tmp_path, account=None)


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the folder."""
    with subprocess.Popen(["sleep", "60"], cwd=tmp_path) as child:
        yield child
        child.kill()


async def test_a_command_s_end_is_its_code_and_its_words_are_in_the_log(paths: ServerPaths, tmp_path: Path) -> None:
    log = open_log(paths, "test.log")
    code = await run_command(["/bin/sh", "-c", "cat; echo trouble >&2; exit 3"], paths, log, 10.0, stdin=b"given\n")
    assert (code, log.read_text()) == (3, "given\ntrouble\n")


async def test_a_command_that_ends_without_reading_its_input_has_a_code_all_the_same(
    paths: ServerPaths, tmp_path: Path
) -> None:
    """As a Postgres does whose folder is in use; its log says so."""
    for _ in range(20):
        assert await run_command(["false"], paths, tmp_path / "log", 10.0, stdin=b"x" * 60_000) == 1


async def test_a_command_gets_nothing_of_our_environment(
    paths: ServerPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARAVAN_SECRET", "a secret")
    monkeypatch.setenv("PGDATA", "/somewhere")
    await run_command(["/usr/bin/env"], paths, tmp_path / "log", 10.0)
    names = {line.partition("=")[0] for line in (tmp_path / "log").read_text().splitlines()}
    assert names <= {"PATH", "LC_ALL", "PWD", "SHLVL", "_"}


async def test_a_command_that_hangs_is_killed_at_its_deadline(paths: ServerPaths, tmp_path: Path) -> None:
    async with asyncio.timeout(10):
        assert await run_command(["sleep", "60"], paths, tmp_path / "log", 0.01) == -signal.SIGKILL


def test_a_process_is_a_session_of_its_own_whose_files_nobody_else_reads(paths: ServerPaths, tmp_path: Path) -> None:
    """Ctrl-C is for us; the servers stop after us."""
    child = spawn_process(["/bin/sh", "-c", "umask; exec sleep 60"], paths, tmp_path / "log")
    try:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)
    finally:
        child.kill()
        child.wait()


def ignore_signals(*names: str) -> str:
    ignored = "".join(f"signal.signal(signal.{name}, signal.SIG_IGN);" for name in names)
    return f"import signal, time; {ignored} print('ready', flush=True); time.sleep(60)"


@pytest.mark.parametrize(("ignored", "is_stopped"), [(("SIGINT",), True), (("SIGINT", "SIGTERM"), False)])
async def test_each_signal_has_its_time_and_then_comes_the_next(ignored: tuple[str, ...], is_stopped: bool) -> None:
    child = subprocess.Popen([sys.executable, "-c", ignore_signals(*ignored)], stdout=subprocess.PIPE)
    try:
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        seconds = 10.0 if is_stopped else 0.02
        signals = ((signal.SIGINT, 0.02), (signal.SIGTERM, seconds))
        server = Server(psutil.Process(child.pid), 1, child, signals)
        assert await server.stop() is is_stopped
        assert server.is_alive() is not is_stopped
        if is_stopped:
            assert child.returncode == -signal.SIGTERM
    finally:
        child.kill()
        child.communicate()


def test_one_that_has_ended_and_that_nobody_collected_is_not_alive() -> None:
    child = subprocess.Popen(["true"])
    found = psutil.Process(child.pid)
    while found.status() != psutil.STATUS_ZOMBIE:
        pass
    assert found.is_running()
    assert not is_alive(found)
    child.wait()
    assert not is_alive(found)


def test_a_server_is_known_by_its_name_and_its_folder(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    pid_file, elsewhere = tmp_path / "pid", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for text in ("", "nonsense", "999999999"):
        pid_file.write_text(text)
        assert find_server_process(tmp_path, pid_file, ("sleep",)) is None
        assert not is_stale(tmp_path, pid_file, ("sleep",)), "in doubt it is not"
    pid_file.write_text(f"{sleeper.pid}\nmore lines\n")
    for folder, name, is_ours in (
        (tmp_path, "sleep", True),
        (tmp_path, "postgres", False),
        (elsewhere, "sleep", False),
    ):
        found = find_server_process(folder, pid_file, (name,))
        assert (found is not None, is_stale(folder, pid_file, (name,))) == (is_ours, not is_ours)
    sleeper.kill()
    sleeper.wait()
    assert find_server_process(tmp_path, pid_file, ("sleep",)) is None


def test_a_log_that_has_grown_too_large_is_begun_anew_and_the_last_one_kept(
    paths: ServerPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_LOG_LIMIT_BYTES", 10)
    log = open_log(paths, "postgres.log")
    for text, kept in (("x" * 10, "x" * 10), ("x" * 11, "")):
        log.write_text(text)
        assert open_log(paths, "postgres.log").read_text() == kept
    assert (tmp_path / "postgres.old.log").read_text() == "x" * 11
    assert log.stat().st_mode & 0o077 == 0


def test_of_a_log_the_last_lines_after_an_offset_are_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"before\n" + b"".join(b"line %d\n" % number for number in range(10)) + b"\xff\n")
    assert tail_log(log, 7, lines=3) == "line 8\nline 9\n\ufffd"
    assert tail_log(log, log.stat().st_size) == ""
    assert tail_log(log, 0, lines=99).startswith("before\n")


def test_a_kept_port_is_taken_again_unless_somebody_has_it() -> None:
    port = choose_port(None)
    assert port in process._PORTS
    assert choose_port(port) == port
    with socket.create_server(("127.0.0.1", port)):
        assert choose_port(port) != port


async def test_a_cancelled_command_takes_its_children_along(tmp_path: Path) -> None:
    """initdb's child once went on writing into the folder that the next start removed."""
    pid, here = tmp_path / "pid", ServerPaths(home=tmp_path, logs=tmp_path, account=None)
    parent: list[str | Path] = ["/bin/sh", "-c", 'sleep 60 & echo $! > "$0.new" && mv "$0.new" "$0"; wait', pid]
    command = asyncio.create_task(run_command(parent, here, tmp_path / "log", 60.0))
    async with asyncio.timeout(10):
        while not pid.exists():
            await asyncio.sleep(process.POLL_SECONDS)
    child = psutil.Process(int(pid.read_text()))
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command
    assert not is_alive(child)
