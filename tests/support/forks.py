"""Starts `caravan` by forks of a process that has imported its libraries.

Of the two seconds of CPU that a start takes, most is imports of libraries, the same ones for a dozen processes of a
shop. What of our own a fork imports, it imports itself: its modules' state is its own, as in a new process.
"""

import asyncio
import atexit
import gc
import json
import os
import re
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

ROOT = Path(__file__).parents[2]
_OWN = ("caravan", "services", "cli")
_LEFT_OUT = ("pyarrow", "typst")  # they start threads, which a fork doesn't have
_MOST_BYTES = 1 << 20
_IMPORT = re.compile(r"^(?:from ([\w.]+) import|import ([\w.]+)$)", re.MULTILINE)


class ForkedProcess:
    """A child of the parent of all forks, with what is used of `asyncio.subprocess.Process`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    async def wait(self) -> int:
        while self.returncode is None:
            await asyncio.sleep(0.01)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Process = asyncio.subprocess.Process | ForkedProcess


class Forks:
    """The parent of all forks of this process, started by the first `fork`; it ends when this process has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: dict[int, ForkedProcess] = {}
        self._control: socket.socket | None = None
        self._answered = threading.Event()
        self._forked: ForkedProcess | None = None

    def fork(self, arguments: Sequence[str], environment: Mapping[str, str], out: BinaryIO) -> ForkedProcess:
        """`python -m cli <arguments>` in the repository's root, its output to `out`."""
        with self._lock:
            control = self._control or self._start()
            self._answered.clear()
            request = json.dumps({"arguments": list(arguments), "environment": dict(environment)}).encode()
            socket.send_fds(control, [request], [out.fileno()])
            assert self._answered.wait(120), "the parent of the forks doesn't answer"
            assert self._forked is not None
            return self._forked

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST_BYTES)
        with theirs:
            parent = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forks", str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._control = ours
        threading.Thread(target=self._receive, args=(ours,), daemon=True, name="forks").start()
        atexit.register(_end, ours, parent)
        return ours

    def _receive(self, control: socket.socket) -> None:
        while message := control.recv(_MOST_BYTES):
            found = json.loads(message)
            if "returncode" in found:
                self._processes.pop(found["pid"]).returncode = found["returncode"]
            else:
                self._forked = self._processes[found["pid"]] = ForkedProcess(found["pid"])
                self._answered.set()


def _end(control: socket.socket, parent: subprocess.Popen[bytes]) -> None:
    control.shutdown(socket.SHUT_RDWR)
    parent.wait(10)


FORKS = Forks()


def find_libraries() -> list[str]:
    """The modules of others that ours import when they are imported."""
    texts = [path.read_text() for folder in _OWN for path in sorted((ROOT / folder).rglob("*.py"))]
    named = {name for text in texts for names in _IMPORT.findall(text) for name in names if name}
    known = {*_OWN, *_LEFT_OUT, *sys.stdlib_module_names}
    return sorted(name for name in named if name.partition(".")[0] not in known)


def serve(control: socket.socket) -> None:
    """The parent of all forks: forks on request, tells how each ended."""
    for name in find_libraries():
        import_module(name)
    assert len(os.listdir("/proc/self/task")) == 1, "a fork would lack the threads that a library has started"
    gc.freeze()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([control.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _tell_of_ended(control)
        if control.fileno() in ready:
            message, files, _, _ = socket.recv_fds(control, _MOST_BYTES, 1)
            if not message:
                return
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for descriptor in (control.detach(), woken, wake):
                    os.close(descriptor)
                _become(json.loads(message), files[0])
            os.close(files[0])
            control.send(json.dumps({"pid": pid}).encode())


def _tell_of_ended(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        control.send(json.dumps({"pid": pid, "returncode": os.waitstatus_to_exitcode(status)}).encode())


def _become(request: dict[str, Any], out: int) -> None:
    """The program, in a fork, until its end."""
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["cli", *request["arguments"]]
    runpy.run_module("cli", run_name="__main__", alter_sys=True)
    sys.exit(0)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
