"""The reloader of the development images, with a program of a few lines: a process starts anew for what it has
imported, and for nothing else.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.shop import wait_until

RELOAD = Path(__file__).parent.parent.parent / ".ci" / "reload"
PROGRAM = f"""#!{sys.executable}
import os, signal, sys
import services.main
with open("starts", "a") as starts:
    starts.write(f"{{os.getpid()}} {{services.main.WORD}} {{' '.join(sys.argv[1:])}}\\n")
signal.sigwait({{signal.SIGTERM}})
"""


class Running:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes]

    @property
    def starts(self) -> list[list[str]]:
        file = self.folder / "starts"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    async def began(self, times: int) -> bool:
        return len(self.starts) == times

    async def says(self, words: str) -> bool:
        return words in self.output

    def write(self, module: str, text: str) -> None:
        (self.folder / "services" / module).write_text(text)

    def start(self) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.folder),
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with (self.folder / "output").open("wb") as output:
            command = [sys.executable, str(RELOAD), "program", "run"]
            self.process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=output, stderr=output)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    (tmp_path / "program").write_text(PROGRAM)
    (tmp_path / "program").chmod(0o755)
    (tmp_path / "services" / "deeper").mkdir(parents=True)
    for module, text in {"__init__.py": "", "main.py": "WORD = 'first'\n", "other.py": "", "page.html": "<p>"}.items():
        running.write(module, text)
    running.start()
    yield running
    running.process.send_signal(signal.SIGTERM)
    running.process.wait(20)


@pytest.fixture
async def started(program: Running) -> Running:
    await wait_until(lambda: program.began(1), seconds=30)
    return program


async def test_it_starts_anew_for_a_module_that_it_imported_and_keeps_its_arguments(started: Running) -> None:
    started.write("main.py", "WORD = 'second'\n")
    await wait_until(lambda: started.began(2), seconds=30)
    (first, second) = started.starts
    assert first[1:] == ["first", "run"]
    assert second[1:] == ["second", "run"]
    assert first[0] != second[0]
    started.write("page.html", "<p>more</p>")
    await wait_until(lambda: started.began(3), seconds=30)


async def test_a_module_that_it_has_not_imported_is_none_of_its_business(started: Running) -> None:
    started.write("other.py", "WORD = 1\n")
    started.write("deeper/other.py", "WORD = 1\n")  # its folder has changed too, which is none of ours either
    started.write("main.py", "WORD = 'second'\n")  # noticed at the earliest when the other one would have been
    await wait_until(lambda: started.began(2), seconds=30)
    assert started.output.count("starts anew for main.py") == 1
    assert len(started.starts) == 2


async def test_what_runs_goes_on_until_a_syntax_error_is_repaired(started: Running) -> None:
    started.write("main.py", "WORD = \n")
    await wait_until(lambda: started.says("goes on"), seconds=30)
    assert len(started.starts) == 1
    assert started.process.poll() is None
    started.write("main.py", "WORD = 'repaired'\n")
    await wait_until(lambda: started.began(2), seconds=30)
    assert started.starts[1][1] == "repaired"


async def test_one_that_fails_as_it_starts_is_started_again_at_the_next_change(started: Running) -> None:
    started.write("main.py", "raise RuntimeError('not yet')\n")
    await wait_until(lambda: started.says("starts anew at the next change"), seconds=30)
    assert started.process.poll() is None
    started.write("main.py", "WORD = 'repaired'\n")
    await wait_until(lambda: started.began(2), seconds=30)


async def test_it_ends_when_it_is_told_to(started: Running) -> None:
    started.process.send_signal(signal.SIGTERM)
    started.process.wait(20)
    assert len(started.starts) == 1
