"""A process ends where a test wants it to, and nowhere else."""

import subprocess
import sys

import pytest

PROGRAM = """
from caravan import failpoint
failpoint.arm({armed!r})
for name in ("first", "second", "second"):
    failpoint.hit(name)
    print(name)
"""


@pytest.mark.parametrize(
    ("armed", "passed", "status"),
    [
        ("second", ["first"], 137),
        ("second:2", ["first", "second"], 137),
        ("second:3", ["first", "second", "second"], 0),
        ("third", ["first", "second", "second"], 0),
        ("", ["first", "second", "second"], 0),
    ],
)
def test_the_process_ends_at_the_hit_that_was_armed(armed: str, passed: list[str], status: int) -> None:
    program = [sys.executable, "-u", "-c", PROGRAM.format(armed=armed)]
    ended = subprocess.run(program, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.stdout.split(), ended.returncode) == (passed, status)
