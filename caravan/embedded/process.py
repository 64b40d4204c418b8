"""Server processes: started in a session of their own, recognised after a crash of ours, stopped with a deadline."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from caravan.embedded.paths import ServerPaths

POLL_SECONDS = 0.025
_LOG_LIMIT_BYTES = 20 * 1024 * 1024
# Below the range from which systems take the ports of outgoing connections, so that a kept port stays free.
_PORTS = range(20_000, 32_000)


@dataclass(slots=True)
class Server:
    """A running server, started by us or found running from an earlier life of ours."""

    process: psutil.Process
    port: int
    child: subprocess.Popen[bytes] | None = None
    stop_signals: Sequence[tuple[signal.Signals, float]] = field(default=())

    def is_alive(self) -> bool:
        if self.child:
            return self.child.poll() is None
        return is_alive(self.process)

    async def stop(self) -> bool:
        """Each signal has its seconds to work; false if the server outlived them all."""
        for number, seconds in self.stop_signals:
            with suppress(psutil.NoSuchProcess):
                self.process.send_signal(number)
            deadline = time.monotonic() + seconds
            while self.is_alive() and time.monotonic() < deadline:
                await asyncio.sleep(POLL_SECONDS)
            if not self.is_alive():
                return True
        return not self.is_alive()


def is_alive(process: psutil.Process) -> bool:
    # A container's first process may never collect its dead: a zombie has ended.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def find_server_process(folder: Path, pid_file: Path, names: Sequence[str]) -> psutil.Process | None:
    """The live server whose pid the file holds."""
    process = _read_process(pid_file)
    return process if process and is_alive(process) and _is_serving(process, folder, names) else None


def is_stale(folder: Path, pid_file: Path, names: Sequence[str]) -> bool:
    """Whether the pid in the file belongs to somebody else by now. False when in doubt."""
    process = _read_process(pid_file)
    return process is not None and _is_serving(process, folder, names) is False


def _read_process(pid_file: Path) -> psutil.Process | None:
    try:
        return psutil.Process(int(pid_file.read_text().split("\n", 1)[0]))
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None


def _is_serving(process: psutil.Process, folder: Path, names: Sequence[str]) -> bool | None:
    """Pids are used again, so the name and the working folder are asked too; None: they can't be."""
    try:
        return process.name() in names and Path(process.cwd()) == folder.resolve()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def spawn_process(
    command: Sequence[str | Path],
    paths: ServerPaths,
    log: Path,
    *,
    stdin: int = subprocess.DEVNULL,
    keep: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """`keep`: descriptors that the server inherits."""
    account = paths.account
    environment = {
        "PATH": os.defpath,
        "LC_ALL": "C",
    }  # nothing of ours: not our secrets, nor a PGDATA of somebody's shell
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(argument) for argument in command],
            stdin=stdin,
            stdout=output,
            stderr=output,
            cwd="/",
            env=environment,
            pass_fds=keep,
            umask=0o077,
            start_new_session=True,  # Ctrl-C is for us; the servers stop after us
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )


async def run_command(
    command: Sequence[str | Path], paths: ServerPaths, log: Path, seconds: float, *, stdin: bytes = b""
) -> int:
    """Runs a command to its end and returns its exit code; it and its children are killed at the deadline, and when we
    are cancelled.
    """
    child = spawn_process(command, paths, log, stdin=subprocess.PIPE)
    try:
        assert child.stdin
        with suppress(BrokenPipeError), child.stdin:  # one that ended without reading it says why in its log
            child.stdin.write(stdin)  # a line or two: fits the pipe
        deadline = time.monotonic() + seconds
        while child.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)
    finally:
        if child.poll() is None:
            await _kill_group(child)
    return child.returncode


async def _kill_group(leader: subprocess.Popen[bytes]) -> None:
    """Returns when all are gone: initdb's child would go on writing into a folder that the next start removes."""
    os.killpg(leader.pid, signal.SIGKILL)
    members = [process for process in psutil.process_iter() if _get_group_id(process) == leader.pid]
    leader.wait(5)
    deadline = time.monotonic() + 5
    while any(is_alive(process) for process in members) and time.monotonic() < deadline:
        await asyncio.sleep(POLL_SECONDS)


def _get_group_id(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except OSError:  # ended meanwhile, or of a session that may not be asked
        return None


def open_log(paths: ServerPaths, name: str) -> Path:
    log = paths.logs / name
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".old.log"))
    log.touch(mode=0o600)
    return log


def tail_log(log: Path, offset: int, lines: int = 6) -> str:
    """The last lines of what was logged after the byte `offset`."""
    with log.open("rb") as file:
        file.seek(offset)
        return "\n".join(file.read()[-8_000:].decode(errors="replace").strip().splitlines()[-lines:])


def choose_port(preferred: int | None) -> int:
    """The kept port if nobody has taken it meanwhile, else another."""
    candidates = ([preferred] if preferred else []) + random.sample(_PORTS, 50)
    for port in candidates:
        with socket.socket() as probe:
            probe.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # as the servers do: closed connections don't count
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("none of 50 random ports on 127.0.0.1 is free")
