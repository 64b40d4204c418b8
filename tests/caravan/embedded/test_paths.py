"""Where the servers keep their files: closed to everybody else, and reachable for the user that they run as."""

import os
import pwd
import shutil
import stat
from pathlib import Path

import pytest

from caravan.embedded.paths import Account, ServerPaths, StartError, find_paths, prepare_paths

AS_ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not AS_ROOT, reason="only root's servers run as another user")


def read_mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_written_file_is_whole_and_for_the_servers_alone(data: Path) -> None:
    paths = ServerPaths(data, data, account=None)
    path = data / "postgresql.conf"
    path.write_text("old")
    path.chmod(0o644)
    (data / ".postgresql.conf.new").write_text("half of a write that was killed")
    paths.write_file(path, "new")
    assert (path.read_text(), read_mode(path)) == ("new", 0o600)
    assert [each.name for each in data.iterdir()] == ["postgresql.conf"]


def test_a_link_in_the_way_of_a_write_leads_nowhere(data: Path) -> None:
    """The folder may belong to a lesser user, and what is written is somebody's secret."""
    elsewhere = data / "elsewhere"
    elsewhere.write_text("theirs")
    (data / ".secret.new").symlink_to(elsewhere)
    (data / "secret").symlink_to(elsewhere)
    ServerPaths(data, data, account=None).write_file(data / "secret", "ours")
    assert elsewhere.read_text() == "theirs"
    assert not (data / "secret").is_symlink()


def test_what_an_older_version_left_open_is_closed(data: Path) -> None:
    (data / "log").mkdir(mode=0o755)
    for path in (data / "secret", data / "lock", data / "log" / "postgres.log"):
        path.touch()
        path.chmod(0o644)
    data.chmod(0o755)
    paths = prepare_paths(data, print)
    assert paths.logs == data / "log"
    assert read_mode(data) == (0o711 if AS_ROOT else 0o700)
    assert read_mode(data / "log") == 0o700
    assert {read_mode(path) for path in (data / "secret", data / "lock", data / "log" / "postgres.log")} == {0o600}


def test_a_folder_is_found_where_an_earlier_start_has_put_it(data: Path) -> None:
    assert find_paths(data).home == data
    home = data / "somewhere"
    home.mkdir()
    (data / "home").symlink_to(home)
    assert find_paths(data).home == home


def test_binaries_that_can_be_reached_are_used_where_they_are(data: Path) -> None:
    assert ServerPaths(data, data, account=None).ensure_reachable(data, ("bin",), print) == data


@only_root
def test_root_has_folders_and_files_that_belong_to_the_servers_user(data: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    paths = ServerPaths(data, data, Account("nobody", nobody.pw_uid, nobody.pw_gid))
    folder = paths.make_folder("postgres")
    paths.write_file(folder / "password", "x")
    assert (folder.stat().st_uid, read_mode(folder)) == (nobody.pw_uid, 0o700)
    assert ((folder / "password").stat().st_uid, read_mode(folder / "password")) == (nobody.pw_uid, 0o600)


@only_root
def test_binaries_that_the_servers_user_can_t_reach_are_copied_once(data: Path) -> None:
    closed, announcements = data / "closed", list[str]()
    (closed / "bin").mkdir(parents=True)
    closed.chmod(0o700)
    (closed / "bin" / "postgres").write_text("#!/bin/sh\n")
    (closed / "bin" / "postgres").chmod(0o700)
    (closed / "libs.so").write_text("library")
    nobody = pwd.getpwnam("nobody")
    paths = ServerPaths(data, data, Account("nobody", nobody.pw_uid, nobody.pw_gid))
    copy = paths.ensure_reachable(closed, ("bin", "libs.so", "not-there"), announcements.append)
    try:
        assert (read_mode(copy / "bin" / "postgres"), read_mode(copy / "libs.so")) == (0o755, 0o644)
        assert len(announcements) == 1
        assert paths.ensure_reachable(closed, ("bin", "libs.so", "not-there"), announcements.append) == copy
        assert len(announcements) == 1
        assert read_mode(closed) == 0o700, "nobody's folder is opened for it"
    finally:
        shutil.rmtree(copy)


@only_root
def test_a_home_that_is_gone_is_an_error_that_says_so(data: Path) -> None:
    (data / "home").symlink_to(data / "gone")
    with pytest.raises(StartError, match="which is gone, and the data with it"):
        prepare_paths(data, print)


@only_root
def test_the_servers_run_as_who_owns_the_data_already_then_as_who_called_sudo(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody, other = pwd.getpwnam("nobody"), next(user for user in pwd.getpwall() if user.pw_uid not in (0, 65534))
    monkeypatch.setenv("SUDO_UID", str(other.pw_uid))
    assert prepare_paths(data, print).account == Account(other.pw_name, other.pw_uid, other.pw_gid)
    (data / "postgres").mkdir()
    os.chown(data / "postgres", nobody.pw_uid, nobody.pw_gid)
    assert prepare_paths(data, print).account == Account("nobody", nobody.pw_uid, nobody.pw_gid)
