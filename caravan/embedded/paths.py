"""Where the servers keep their files, and as whom they run.

Postgres refuses to run as root, so root's servers run as an unprivileged system user. That user must reach the data and
the binaries; what it can't reach is put where it can, instead of opening other people's folders.
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


class StartError(Exception):
    """A server could not be started; the text says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class ServerPaths:
    home: Path  # holds the folders postgres/ and redis/
    logs: Path
    account: Account | None  # None: servers run as we do

    def make_folder(self, name: str) -> Path:
        """A folder that belongs to the servers alone."""
        path = self.home / name
        path.mkdir(mode=0o700, exist_ok=True)
        if self.account:
            os.chown(path, self.account.uid, self.account.gid, follow_symlinks=False)
        return path

    def write_file(self, path: Path, text: str) -> None:
        """Writes a file that only the servers read, whole or not at all."""
        temporary_path = path.with_name(f".{path.name}.new")
        temporary_path.unlink(missing_ok=True)
        # O_EXCL and O_NOFOLLOW: the folder may belong to a lesser user than us, who must not lead us elsewhere.
        descriptor = os.open(temporary_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            if self.account:
                os.fchown(descriptor, self.account.uid, self.account.gid)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        temporary_path.replace(path)

    def ensure_reachable(self, root: Path, names: Sequence[str], announce: Callable[[str], None]) -> Path:
        """`root`, or a folder with a copy of `names` in it for the case that the servers' user can't reach them (a venv
        in /root).
        """
        if self.account is None or _is_reachable(root / names[0], self.account):
            return root
        digest = hashlib.sha256(f"{root} {names} {(root / names[0]).stat().st_mtime_ns}".encode()).hexdigest()[:12]
        copy = _make_public_folder(self.home) / f"{Path(names[0]).name}-{digest}"
        if not copy.exists():
            announce(f"the user {self.account.name} can't reach {root / names[0]}: copying it to {copy}")
            temporary_path = Path(tempfile.mkdtemp(dir=copy.parent, prefix="new-"))
            for name in names:
                if (root / name).is_dir():
                    shutil.copytree(root / name, temporary_path / name, symlinks=True)
                elif (root / name).exists():
                    (temporary_path / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(root / name, temporary_path / name)
            for path in (temporary_path, *temporary_path.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            temporary_path.rename(copy)
        return copy


def find_paths(data: Path) -> ServerPaths:
    """The place that an earlier start has chosen for this data folder; for looking, not for starting."""
    return ServerPaths(
        home=(data / "home").resolve() if (data / "home").is_symlink() else data, logs=data / "log", account=None
    )


def prepare_paths(data: Path, announce: Callable[[str], None]) -> ServerPaths:
    logs = data / "log"
    logs.mkdir(mode=0o700, exist_ok=True)
    logs.chmod(0o700)
    for path in (data / "secret", data / "lock", *logs.iterdir()):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o600)  # an older version, or a copy, may have left them open
    if data.stat().st_uid == os.geteuid() and not data.stat().st_mode & stat.S_ISVTX:
        data.chmod(
            0o711 if os.geteuid() == 0 else 0o700
        )  # root's servers run as another user: they pass through, and list nothing
    if os.geteuid() != 0:
        return ServerPaths(home=data, logs=data / "log", account=None)
    account = _choose_account(find_paths(data).home)
    home = _choose_home(data, account, announce)
    return ServerPaths(home=home, logs=data / "log", account=account)


def _is_reachable(path: Path, account: Account) -> bool:
    """Asks the system rather than mode bits: access lists and mount options count too."""
    result = subprocess.run(
        ["/bin/sh", "-c", 'test -x "$0"', str(path)],
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        cwd="/",
        stdin=subprocess.DEVNULL,
        timeout=10,
        check=False,
    )
    return result.returncode == 0


def _choose_account(home: Path) -> Account:
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
    raise StartError(
        "Postgres does not run as root, and there is neither a user postgres nor nobody to run it as. Start as "
        "another user."
    )


def _choose_home(data: Path, account: Account, announce: Callable[[str], None]) -> Path:
    link = data / "home"
    if link.is_symlink():
        if not link.exists():
            raise StartError(
                f"{link} points to {link.readlink()}, which is gone, and the data with it. Remove {data} to begin anew."
            )
        return link.resolve()
    if not data.stat().st_mode & 0o001:
        data.chmod(
            data.stat().st_mode & 0o777 | 0o011
        )  # to pass through, not to list: files and folders in it are ours alone
    if _is_reachable(data, account):
        return data
    if (data / "postgres").exists():
        raise StartError(
            f"the user {account.name} can't reach {data} any more: let others pass through its parents (chmod o+x)"
        )
    home = Path(tempfile.mkdtemp(dir=_make_public_folder(data), prefix="home-"))
    home.chmod(0o711)
    link.symlink_to(home)
    announce(
        f"Postgres does not run as root, and the user {account.name} can't reach {data}: the databases are in {home}"
    )
    return home


def _make_public_folder(data: Path) -> Path:
    """A folder of root's that every user can pass through."""
    temporary = Path(tempfile.gettempdir()).resolve()
    folder = temporary / "caravan-root" if data.is_relative_to(temporary) else Path("/var/lib/caravan")
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
        raise StartError(f"{folder} is not a folder that only root writes: remove it")
    folder.chmod(0o755)
    return folder
