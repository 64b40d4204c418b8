"""`make service` writes a service that passes every check, starts in its own tests, and costs two lines elsewhere."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.gateway.routing.trie import find_root_owners
from tools.new_service import REGISTRY, RULE, VALUES, refuse_name
from tools.service_lists import fill_blocks

ROOT = Path(__file__).parents[2]
NAME = "giftcards"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("orders", "services/orders exists"),
        ("registry", "something else has it"),
        ("rabbitmq", "something else has it"),
        ("bus", "something else has it"),
        ("audit", "the paths /v1/audit belong to analytics"),
        ("lambda", "it is a keyword of Python"),
        *((name, RULE) for name in ("", "x", "Loyalty", "gift_cards", "gift-cards", "2nd", "a/b", "é" * 3, "a" * 31)),
    ],
)
def test_a_name_that_is_taken_reserved_or_no_name_is_refused_with_the_rule(name: str, reason: str) -> None:
    assert refuse_name(ROOT, name).startswith(reason)


def test_a_free_name_is_taken() -> None:
    assert refuse_name(ROOT, NAME) == ""


def test_paths_that_begin_with_no_service_belong_to_nobody() -> None:
    assert find_root_owners("nothing") == set()
    assert find_root_owners("products") == {"catalog", "recommendations"}


def test_a_block_is_written_anew_as_far_in_as_it_stands() -> None:
    text = "a:\n  # make docs: list\n  - old\n  # end\nb: 1\n"
    assert fill_blocks(text, {"list": ["- x", "- y"]}) == "a:\n  # make docs: list\n  - x\n  - y\n  # end\nb: 1\n"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of what is committed or about to be, with the new service in it."""
    copy = tmp_path_factory.mktemp("tree")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    run_in(copy, "-m", "tools.new_service", NAME)
    yield copy
    shutil.rmtree(copy)


def run_in(tree: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


@pytest.mark.slow
def test_only_two_files_are_changed_that_are_written_by_hand(tree: Path) -> None:
    for name, line in ((REGISTRY, f'    "{NAME}",\n'), (VALUES, f"  {NAME}: {{}}\n")):
        assert (tree / name).read_text().replace(line, "", 1) == (ROOT / name).read_text()
    run_in(
        tree,
        "-c",
        "from tools.generate_docs import ROOT, render_pages\n"
        "assert all((ROOT / path).read_text() == text for path, text in render_pages().items())",
    )


@pytest.mark.slow
def test_the_new_service_is_formatted_linted_typed_and_imports_what_it_may(tree: Path) -> None:
    folders = [f"services/{NAME}", f"tests/services/{NAME}"]
    run_in(tree, "-m", "ruff", "format", "--check", *folders)
    run_in(tree, "-m", "ruff", "check", *folders)
    run_in(tree, "-m", "mypy", "--cache-dir", "/dev/null", *folders)
    run_in(tree, str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache")


@pytest.mark.slow
def test_the_new_service_starts_and_its_own_tests_pass(tree: Path) -> None:
    output = run_in(tree, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", f"tests/services/{NAME}")
    assert "3 passed" in output
