"""`python -m caravan.embedded remove FOLDER`: ends who uses the folder, then removes its databases and nothing else."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.caravan.embedded.folder_users import close_pipes, start_user


def run_module(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "caravan.embedded", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_whoever_uses_the_folder_is_ended_and_its_databases_are_removed(tmp_path: Path) -> None:
    for name in ("postgres", "redis", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / "secret").touch()
    user = start_user(tmp_path)
    done = run_module("remove", tmp_path)
    close_pipes(user)
    assert (done.returncode, done.stdout) == (0, f"stopping process {user.pid}\n")
    assert user.returncode == -signal.SIGTERM
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "secret", "users"}
    assert (tmp_path / "mine" / "file").exists()


def test_databases_that_are_kept_elsewhere_are_removed_there(tmp_path: Path) -> None:
    home = tmp_path / "elsewhere"
    (home / "postgres").mkdir(parents=True)
    data = tmp_path / "data"
    data.mkdir()
    (data / "home").symlink_to(home)
    assert run_module("remove", data).returncode == 0
    assert not home.exists()


def test_any_other_words_say_how() -> None:
    done = run_module("delete", "somewhere")
    assert (done.returncode, "usage: python -m caravan.embedded remove FOLDER" in done.stderr) == (1, True)
