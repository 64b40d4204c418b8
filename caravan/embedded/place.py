"""Where the servers keep their files, and as whom they run.

Postgres refuses to run as root, so root's servers run as an unprivileged system user. That user must reach the data and the
binaries; instead of opening other people's folders, what it can't reach is placed where it can.
"""

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


class StartFailed(Exception):
    """A server could not be started; the text says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Place:
    home: Path  # holds the folders postgres/ and redis/
    logs: Path
    account: Account | None  # None: servers run as we do

    def folder(self, name: str) -> Path:
        """A folder that belongs to the servers alone."""
        path = self.home / name
        path.mkdir(mode=0o700, exist_ok=True)
        if self.account:
            os.chown(path, self.account.uid, self.account.gid, follow_symlinks=False)
        return path

    def write(self, path: Path, text: str) -> None:
        """Writes a file that only the servers read, whole or not at all."""
        new = path.with_name(f".{path.name}.new")
        new.unlink(missing_ok=True)
        # O_EXCL and O_NOFOLLOW: the folder may belong to a lesser user than us, who must not lead us elsewhere.
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            if self.account:
                os.fchown(descriptor, self.account.uid, self.account.gid)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        new.replace(path)

    def runnable(self, root: Path, parts: Sequence[str], announce: Callable[[str], None]) -> Path:
        """`root`, or a folder with a copy of its `parts` for the case that the servers' user can't reach them (a venv in /root)."""
        if self.account is None or reachable(root / parts[0], self.account):
            return root
        mark = hashlib.sha256(f"{root} {parts} {(root / parts[0]).stat().st_mtime_ns}".encode()).hexdigest()[:12]
        copy = _open_ground(self.home) / f"{Path(parts[0]).name}-{mark}"
        if not copy.exists():
            announce(f"the user {self.account.name} can't reach {root / parts[0]}: copying it to {copy}")
            new = Path(tempfile.mkdtemp(dir=copy.parent, prefix="new-"))
            for part in parts:
                if (root / part).is_dir():
                    shutil.copytree(root / part, new / part, symlinks=True)
                elif (root / part).exists():
                    (new / part).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(root / part, new / part)
            for path in (new, *new.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            new.rename(copy)
        return copy


def find(data: Path) -> Place:
    """The place that an earlier start has chosen for this data folder; for looking, not for starting."""
    return Place(home=(data / "home").resolve() if (data / "home").is_symlink() else data, logs=data / "log", account=None)


def prepare(data: Path, announce: Callable[[str], None]) -> Place:
    logs = data / "log"
    logs.mkdir(mode=0o700, exist_ok=True)
    logs.chmod(0o700)
    for path in (data / "secret", data / "lock", *logs.iterdir()):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o600)  # an older version, or a copy, may have left them open
    if data.stat().st_uid == os.geteuid() and not data.stat().st_mode & stat.S_ISVTX:
        data.chmod(0o711 if os.geteuid() == 0 else 0o700)  # root's servers run as another user: they pass through, and list nothing
    if os.geteuid() != 0:
        return Place(home=data, logs=data / "log", account=None)
    account = _unprivileged(find(data).home)
    home = _home(data, account, announce)
    return Place(home=home, logs=data / "log", account=account)


def reachable(path: Path, account: Account) -> bool:
    """Asks the system rather than mode bits: access lists and mount options count too."""
    answer = subprocess.run(
        ["/bin/sh", "-c", 'test -x "$0"', str(path)],
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        cwd="/",
        stdin=subprocess.DEVNULL,
        timeout=10,
        check=False,
    )
    return answer.returncode == 0


def _unprivileged(home: Path) -> Account:
    """The owner of what is there already; else who called sudo; else the user that such systems have."""
    owner = (home / "postgres").stat().st_uid if (home / "postgres").exists() else 0
    caller = os.environ.get("SUDO_UID", "0")  # not a setting: sudo's way of saying who called
    for uid in (owner, int(caller) if caller.isdigit() else 0):
        if uid:
            try:
                entry = pwd.getpwuid(uid)
            except KeyError:
                continue
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise StartFailed("Postgres does not run as root, and there is neither a user postgres nor nobody to run it as. Start as another user.")


def _home(data: Path, account: Account, announce: Callable[[str], None]) -> Path:
    link = data / "home"
    if link.is_symlink():
        if not link.exists():
            raise StartFailed(f"{link} points to {link.readlink()}, which is gone, and the data with it. Remove {data} to begin anew.")
        return link.resolve()
    if not data.stat().st_mode & 0o001:
        data.chmod(data.stat().st_mode & 0o777 | 0o011)  # to pass through, not to list: files and folders in it are ours alone
    if reachable(data, account):
        return data
    if (data / "postgres").exists():
        raise StartFailed(f"the user {account.name} can't reach {data} any more: let others pass through its parents (chmod o+x)")
    home = Path(tempfile.mkdtemp(dir=_open_ground(data), prefix="home-"))
    home.chmod(0o711)
    link.symlink_to(home)
    announce(f"Postgres does not run as root, and the user {account.name} can't reach {data}: the databases are in {home}")
    return home


def _open_ground(data: Path) -> Path:
    """A folder of root's that every user can pass through."""
    temporary = Path(tempfile.gettempdir()).resolve()
    ground = temporary / "caravan-root" if data.is_relative_to(temporary) else Path("/var/lib/caravan")
    ground.mkdir(mode=0o755, parents=True, exist_ok=True)
    found = ground.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise StartFailed(f"{ground} is not a folder that only root writes: remove it")
    ground.chmod(0o755)
    return ground
