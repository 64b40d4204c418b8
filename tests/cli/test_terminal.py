"""What the commands print: foreign text is text, a table that is too wide becomes a list, and only one module
prints.
"""

import ast
import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from caravan.printable import escape_unprintable
from cli import COMMANDS, load_command, terminal
from cli.cache import list_caches
from cli.projections import list_projections
from cli.up import _format_event

CLI = Path(terminal.__file__).parent
HOSTILE = "[/nope] [bold]x[/bold] :smile: \x9b31m\x1b]0;title\x07 \u202eevil\u2066 a\x00b\r\nline two\x7f\u200b"


def assert_harmless(text: str) -> None:
    assert text.replace("\n", "").isprintable(), repr(text)


@pytest.mark.parametrize("tty", [False, True])
def test_foreign_text_is_printed_as_text(
    tty: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if tty:
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        monkeypatch.setenv("NO_COLOR", "1")
    terminal.print_line(HOSTILE)
    terminal.print_note(HOSTILE)
    terminal.print_table(HOSTILE, ("name", "#n"), [(HOSTILE, 1)])
    terminal.print_fields([("name", HOSTILE)])
    terminal.print_document(HOSTILE.replace("\r\n", "\n"))
    with pytest.raises(SystemExit, match="2"):
        terminal.exit_with_error(HOSTILE)
    out, err = capsys.readouterr()
    assert_harmless(out.replace("\x1b[1m", "").replace("\x1b[0m", ""))  # the table's own bold head
    assert_harmless(err)
    for text in (out, err):
        assert "[/nope] [bold]x[/bold] :smile: \\x9b31m\\x1b]0;title\\x07 \\u202eevil\\u2066" in text


@pytest.mark.parametrize("terminal_there", [False, True])
def test_the_events_of_up_show_a_reason_as_it_is(
    terminal_there: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Console, "is_terminal", terminal_there)
    envelope = {"time": "2026-01-01T10:00:00Z", "data": {"reason": HOSTILE, "email": "[red]"}}
    terminal.print_styled(*(_format_event("order-cancelled", key, envelope) for key in ("[/x]", "[/y]")))
    out = re.sub(r"\x1b\[[02]m", "", capsys.readouterr().out)  # the moment and the facts are dim
    assert_harmless(out)
    assert out.count("\n") == 2
    assert out.count("reason=[/nope] [bold]x[/bold]") == 2
    assert out.count("email=[red]") == 2


@given(st.text())
def test_nothing_but_what_can_be_seen_is_left(text: str) -> None:
    assert_harmless(escape_unprintable(text))
    assert escape_unprintable(text) == text or not text.isprintable()


def test_json_holds_the_same_text_and_nothing_that_a_terminal_acts_on(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"reason": HOSTILE + "\U000e0041", "n": [1, {"é": "€"}]}
    terminal.print_json(value)
    out = capsys.readouterr().out
    assert_harmless(out)
    assert json.loads(out) == value
    assert "€" in out


ROWS = [
    ("inventory.reserve-stock", 1, "0 12 1 7 * (Europe/London)", "2026-07-01T11:00:00Z", "no room for 3 of these " * 4)
]
COLUMNS = ("queue", "#waiting", "schedule", "next", "reason")


@pytest.mark.parametrize("width", [40, 80, 120, 300])
def test_a_table_keeps_every_value_at_any_width(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    terminal.print_table("", COLUMNS, ROWS)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    for word in " ".join(map(str, (*ROWS[0], *(name.lstrip("#") for name in COLUMNS)))).split():
        assert word in out, word
    assert (width == 300) == (" ".join(ROWS[0][4].split()) in out)


def test_a_value_that_fits_nowhere_is_neither_cut_nor_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    terminal.print_table("", ("id", "state"), [("x" * 200, "failed")])
    assert f"id     {'x' * 200}\nstate  failed\n" in capsys.readouterr().out


def test_only_one_module_prints() -> None:
    """So that everything goes through its escaping."""
    for path in CLI.rglob("*.py"):
        if path.name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not any(name.partition(".")[0] == "rich" for name in names), f"{path.name}: use cli.terminal"
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if (
                called == "sys.stderr.write"
                and isinstance(node, ast.Call)
                and ast.unparse(node.args[0]).startswith("escape_unprintable(")
            ):
                continue  # a traceback, before any command is loaded
            assert called not in {"print", "typer.echo", "typer.secho", "sys.stdout.write", "sys.stderr.write"}, (
                f"{path.name}: {called}"
            )
            assert not (isinstance(node, ast.Name) and node.id == "print"), f"{path.name}: print is handed on"


@pytest.mark.parametrize("command", ["", *COMMANDS, "jobs list", "failures redrive"])
def test_help_loads_no_service_and_costs_little(command: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    program = (
        "import sys; from cli.__main__ import main; sys.argv[1:] = sys.argv[1].split() + ['--help']\n"
        "heavy = ('services.', 'caravan', 'sqlalchemy', 'sqlmodel', 'faststream')\n"
        "try: main()\n"
        "finally: print(*(name for name in sys.modules if name.startswith(heavy)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, command], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    light = {
        "caravan",
        "caravan.printable",
        "services.registry",
        "cli",
        "cli.commands",
        "cli.groups",
        "cli.options",
    }
    assert set(done.stderr.split()) <= light
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 0.5, "0.1 to 0.2 s on a quiet machine"
    for name in () if command else COMMANDS:
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_that_help_lists_is_there(name: str) -> None:
    assert load_command(name).name == name
    assert load_command(name).help


def test_the_read_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    list_projections()
    assert "order_summary  orders\n" in capsys.readouterr().out


def test_what_is_cached_is_listed_with_what_voids_it(capsys: pytest.CaptureFixture[str]) -> None:
    list_caches("table")
    table = capsys.readouterr().out
    assert "catalog.product-lists\n" in table
    assert "product:<sku>, products-of:<category>, products\n" in table
    assert re.search(r"^products-of:<category> .* product-updated$", table, re.MULTILINE)
    list_caches("json")
    documents = {document["name"]: document for document in json.loads(capsys.readouterr().out)}
    assert documents["catalog.product-lists"]["seconds"] == 60


def test_an_error_that_nobody_foresaw_is_shown_as_text_too() -> None:
    program = (
        "import sys, types\n"
        "def show_status(output): raise ValueError('no \\x9b31m \\x1b[0m \\u202e')\n"
        "sys.modules['cli.status'] = types.SimpleNamespace(show_status=show_status)\n"
        "from cli.__main__ import main; sys.argv = ['caravan', 'status']; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: no \\x9b31m \\x1b[0m \\u202e\n")
    assert_harmless(done.stderr)
