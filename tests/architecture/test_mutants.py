"""Each planted bug of tests/mutants still fits the code, and its test is there; `make mutants` runs them."""

import re
from pathlib import Path

import pytest

from tests.mutants.mutant import Mutant, MutantError, load_mutants
from tests.mutants.outcomes import Outcome, find_fault, find_survival

MUTANTS = load_mutants()
TEXT = (
    'bug = "b"\norigin = "o"\ntest = "test_a.py::test_a"\nfile = "a.py"\nold = """\nb = 2\n"""\nnew = """\nb = 3\n"""\n'
)
TEST = "tests/test_a.py::test_a"


def test_there_are_enough_of_them() -> None:
    assert len(MUTANTS) >= 24


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_bug_can_be_planted_and_its_test_is_there(mutant: Mutant) -> None:
    mutant.apply()
    mutant.check_test()


def load_one(folder: Path, text: str = TEXT) -> Mutant:
    (folder / "a-bug.toml").write_text(text)
    return load_mutants(folder)[0]


def test_lines_are_replaced_where_they_stand_once(tmp_path: Path) -> None:
    mutant = load_one(tmp_path)
    (tmp_path / "a.py").write_text("a = 1\nb = 2\nbb = 2\n")
    assert mutant.apply(tmp_path) == "a = 1\nb = 3\nbb = 2\n"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("a = 1\n", r"has the lines of `old` 0 times"),
        ("b = 2\nb = 2\n", "2 times"),
        (None, "there is no a.py any more"),
    ],
)
def test_a_mutant_that_fits_the_code_no_more_says_so(tmp_path: Path, code: str | None, message: str) -> None:
    mutant = load_one(tmp_path)
    if code is not None:
        (tmp_path / "a.py").write_text(code)
    with pytest.raises(MutantError, match=f"(?s)a-bug: .*{message}"):
        mutant.apply(tmp_path)


def test_a_bug_that_is_no_python_is_refused(tmp_path: Path) -> None:
    mutant = load_one(tmp_path, TEXT.replace("b = 3", "b ="))
    (tmp_path / "a.py").write_text("b = 2\n")
    with pytest.raises(MutantError, match=r"no Python with the bug in it"):
        mutant.apply(tmp_path)


@pytest.mark.parametrize("code", [None, "def test_another() -> None: ...\n"])
def test_a_test_that_is_gone_is_named(tmp_path: Path, code: str | None) -> None:
    mutant = load_one(tmp_path)
    if code is not None:
        (tmp_path / "test_a.py").write_text(code)
    with pytest.raises(MutantError, match=r"test_a.* any more"):
        mutant.check_test(tmp_path)


@pytest.mark.parametrize("text", [TEXT.replace("origin", "seen"), TEXT.replace("b = 3", "b = 2"), "bug = "])
def test_a_file_that_is_no_mutant_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(MutantError, match=r"a-bug\.toml"):
        load_one(tmp_path, text)


CAUGHT = Outcome(f"{TEST}[1]", "call", "failed", True, "AssertionError: 1 == 2")
GREEN = Outcome(f"{TEST}[2]", "call", "passed")
BROKEN = Outcome(TEST, "setup", "failed", False, "TypeError: no")
ANOTHER = Outcome("tests/test_a.py::test_ab", "call", "failed", True)


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([CAUGHT], ""),
        ([GREEN, CAUGHT], ""),
        ([GREEN], "SURVIVED: the test is green"),
        ([GREEN, ANOTHER], "SURVIVED: the test is green"),
        ([BROKEN], "red for another reason than an assertion: setup failed: TypeError: no"),
        ([Outcome("", "collect", "failed", reason="ImportError")], "red for another .*: collect failed: ImportError"),
        ([Outcome(TEST, "call", "skipped")], "red for another .*: call skipped: "),
        ([], "red for another .*: the test did not run"),
    ],
)
def test_only_an_assertion_catches_a_mutant(outcomes: list[Outcome], verdict: str) -> None:
    assert re.fullmatch(verdict, find_survival(outcomes, TEST)) is not None


def test_a_test_that_is_red_without_a_bug_is_told() -> None:
    assert find_fault([GREEN], TEST) == ""
    assert find_fault([GREEN, CAUGHT], TEST) == "call failed: AssertionError: 1 == 2"
    assert find_fault([], TEST) == "the test did not run"
