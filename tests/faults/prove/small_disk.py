"""A disk of its own for a server of a proof, small enough to be filled: a file system in a file, which only root may
mount.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from shutil import which

DISK_MEGABYTES = 1024
"""25,000 orders leave about 500 MB in the topics."""
FILLER = "filler"


@cache
def explain_no_disk() -> str:
    """Why there can be none here; nothing where it can."""
    if os.geteuid() != 0:
        return "only root may mount a small disk for Kafka"
    if not which("mkfs.ext4"):
        return "no mkfs.ext4 that would make a small disk for Kafka"
    with tempfile.TemporaryDirectory() as folder:
        disk, mounted = Path(folder, "disk"), Path(folder, "mounted")
        mounted.mkdir()
        if failure := _mount(disk, mounted, 8):
            return f"no small disk can be mounted here: {failure}"
        _run("umount", str(mounted))
    return ""


@contextmanager
def mount_small_disk(disk: Path, folder: Path) -> Iterator[None]:
    """`disk`: the file that keeps what is in `folder`. Where none can be mounted, it is a folder like others."""
    folder.mkdir(exist_ok=True)
    if explain_no_disk():
        yield
        return
    if not folder.is_mount():  # else an interrupted proof has left it
        failure = _mount(disk, folder, DISK_MEGABYTES)
        assert not failure, failure
    try:
        free_disk(folder)
        yield
    finally:
        _run("umount", "--lazy", str(folder))


def fill_disk(folder: Path) -> None:
    """Until not one more block fits."""
    with (folder / FILLER).open("wb") as filler:
        size = 0
        for step in (1 << 24, 1 << 20, 1 << 12):
            with suppress(OSError):
                while True:
                    os.posix_fallocate(filler.fileno(), size, step)
                    size += step


def free_disk(folder: Path) -> None:
    (folder / FILLER).unlink(missing_ok=True)


def _mount(disk: Path, folder: Path, megabytes: int) -> str:
    """What went wrong; nothing when all went well. A disk that is there is taken as it is."""
    if not disk.exists():
        with disk.open("wb") as file:
            file.truncate(megabytes << 20)
        if failure := _run("mkfs.ext4", "-q", "-F", "-m", "0", str(disk)):
            return failure
    return _run("mount", "-o", "loop", str(disk), str(folder))


def _run(*command: str) -> str:
    """What went wrong; nothing when all went well."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL)
    return (done.stderr.strip() or f"exit {done.returncode}") if done.returncode else ""
