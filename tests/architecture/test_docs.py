"""The documents say what the program is: links lead somewhere; commands, settings, targets of make, operations of the
API, files and names that they quote exist; their prose keeps the rules of CONTRIBUTING.md.
"""

import ast
import functools
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from pydantic_settings import BaseSettings

from caravan.settings import Settings
from cli import COMMANDS, load_command
from services.gateway import api as gateway
from services.gateway.admin import dead_letters, job_admin
from services.registry import load_services, load_settings_classes

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", "node_modules", ".git", ".hypothesis"} & {*path.parts} and path.name != "CHANGELOG.md"
)
CODE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SHELL = {"bash", "sh", "shell", "console", ""}


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def prose(text: str) -> str:
    return CODE.sub("", text)


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    for target in LINK.findall(prose(text)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        aim = (document.parent / file).resolve() if file else document
        assert aim.exists(), f"{name_of(document)}: {target}"
        if anchor and aim.suffix == ".md":
            assert anchor in anchors(aim.read_text()), f"{name_of(document)}: {target}"


def shell_lines(text: str) -> Iterator[str]:
    """Commands of code blocks, continued lines joined, and what prose quotes."""
    for language, block in CODE.findall(text):
        if language in SHELL:
            for line in re.sub(r"\\\n\s*", " ", block).splitlines():
                yield line.strip().removeprefix("$ ")
    yield from INLINE.findall(prose(text))


def commands(text: str, word: str) -> Iterator[list[str]]:
    """What follows `word` where it is called."""
    for line in shell_lines(text):
        for part in re.split(r"\s*(?:;|&&|\|\||\||&(?=\s|$))\s*", re.sub(r"(^|\s)#.*", "", line)):
            try:
                words = shlex.split(part)
            except ValueError:
                continue
            while words and (re.fullmatch(r"[A-Z_0-9]+=.*", words[0]) or words[0] in ("exec", "time", "sudo")):
                words = words[1:]
            if words and words[0].removeprefix(".venv/bin/") == word:
                yield words[1:]


def fault_of(words: list[str]) -> str | None:
    """Why the program would not take a command as one of its own; what stands for a value isn't looked at."""
    if not words or not re.fullmatch(r"[a-z]+", words[0]):
        return None
    if words[0] not in COMMANDS:
        return f"no command {words[0]}"
    command = load_command(words[0])
    for word in words[1:]:
        if word in (">", "<"):
            break
        if word.startswith("-") and word != "-":
            options = {
                option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
            } | {"--help"}
            if word.partition("=")[0] not in options:
                return f"no option {word}"
        elif re.fullmatch(r"[a-z-]+", word) and hasattr(command, "commands"):
            if word not in command.commands:
                return f"no command {word}"
            command = command.commands[word]
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_commands_are_the_programs(document: Path) -> None:
    faults = {
        " ".join(words): fault for words in commands(document.read_text(), "caravan") if (fault := fault_of(words))
    }
    assert not faults, name_of(document)


TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_targets_of_make_exist(document: Path) -> None:
    for words in commands(document.read_text(), "make"):
        named = [
            word for word in words if not word.startswith("-") and "=" not in word and re.fullmatch(r"[a-z0-9-]+", word)
        ]
        assert not named or named[0] in TARGETS, f"{name_of(document)}: make {' '.join(words)}"


KINDS: list[type[BaseSettings]] = [Settings, *load_settings_classes()]
PREFIXES = {str(kind.model_config["env_prefix"]): {name.upper() for name in kind.model_fields} for kind in KINDS}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_settings_exist(document: Path) -> None:
    for prefix, names in PREFIXES.items():
        for name in re.findall(rf"\b{prefix}([A-Z][A-Z0-9_]*[A-Z0-9])\b(?!_)", document.read_text()):
            assert name in names, f"{name_of(document)}: {prefix}{name}"


def operations() -> set[tuple[str, str]]:
    routers = [router for service in load_services() for router in service.routers] + [
        gateway.router,
        dead_letters.router,
        job_admin.router,
    ]
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    return {(method, re.sub(r"\{[^}]*\}", "{}", route.path)) for route in routes for method in route.methods or ()}


OPERATIONS = operations()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_operations_of_the_api_exist(document: Path) -> None:
    known = {path for _, path in OPERATIONS}
    for quote in INLINE.findall(prose(document.read_text())):
        if found := re.fullmatch(r"(?:(GET|POST|PUT|PATCH|DELETE) )?(/v1/[^\s?#…]*)[?#]?\S*", quote):
            method, path = found[1], re.sub(r"\{[^}]*\}|<[^>]*>|\$\w+", "{}", found[2]).rstrip("/")
            if path.startswith("/v1/snapshots"):
                continue  # the operator's
            there = (method, path) in OPERATIONS if method else any(each.startswith(path) for each in known)
            assert there, f"{name_of(document)}: {quote}"


def test_what_a_document_could_say_wrongly_is_found() -> None:
    assert fault_of(["jobs", "retyr", "x"]) == "no command retyr"
    assert fault_of(["up", "--sed"]) == "no option --sed"
    assert fault_of(["failures", "redrive", "--cause", "x", "--dry-run"]) is None
    assert list(commands("```bash\nA=1 .venv/bin/caravan run all  # all\n```\n", "caravan")) == [["run", "all"]]


INDEX = (ROOT / "docs/index.md").read_text()


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*/*.md")), ids=name_of)
def test_the_index_names_every_page(page: Path) -> None:
    if page.parent.name != "adr":
        assert f"({page.relative_to(ROOT / 'docs')})" in INDEX, f"{name_of(page)} is in no table of docs/index.md"


WRITTEN = [path for path in DOCUMENTS if path.parent.name != "results" and "Generated by" not in path.read_text()]
PRIVATE = re.compile(
    r"\b(?:rooms?|floors?|doors?|faces|desks?|knobs?|nudge[sd]?|shelf|shelves|deeds?|arrivals)\b|\bis away\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("document", WRITTEN, ids=name_of)
def test_documents_use_the_words_of_the_field(document: Path) -> None:
    found = PRIVATE.findall(document.read_text())
    assert found == [], (
        "say entry point, module, public API, dead letters, settings, wake, unavailable: docs/glossary.md"
    )


SENTENCE_END = re.compile(r"(?<![A-Z0-9])[a-z)`\"][.!?][\"”)*]*\s+[\"“(*]*(?:[A-Z]|`[^`]+`\s)")


@pytest.mark.parametrize("document", WRITTEN, ids=name_of)
def test_prose_has_one_sentence_a_line(document: Path) -> None:
    lines = [line for line in prose(document.read_text()).splitlines() if not re.match(r"\s*\|", line)]
    found = [
        line
        for line in lines
        if SENTENCE_END.search(re.sub(r"`[^`]*`", "`x`", re.sub(r"^\s*(?:[-*]|\d+\.)?\s*\*\*.*?\*\*", "", line)))
    ]
    assert found == [], f"{name_of(document)}: begin a line with each sentence"


NAMED = re.compile(r"`((?:caravan|services|cli|operator)/[\w/]+\.py)`: `([\w.]+)`")


def test_the_routes_through_the_code_are_there() -> None:
    """ARCHITECTURE.md says where things happen as `file`: `name`."""
    found = NAMED.findall((ROOT / "ARCHITECTURE.md").read_text())
    assert found
    missing = [f"{file}: {name}" for file, name in found if not defines(ROOT / file, name.split("."))]
    assert missing == [], "moved or renamed: correct the route in ARCHITECTURE.md"


def defines(file: Path, names: list[str]) -> bool:
    """Whether a module has a function or class of this name, in the class before it if there are two."""
    if not file.exists():
        return False
    body: list[ast.stmt] = ast.parse(file.read_text()).body
    for name in names:
        found = [
            node
            for node in body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name
        ]
        if not found:
            return False
        body = found[0].body
    return True


QUOTED_FILE = re.compile(r"`((?:caravan|services|cli|operator|tests|bench|tools|docs|charts)/[\w./-]*\w)`")


@pytest.mark.parametrize("document", WRITTEN, ids=name_of)
def test_files_that_a_document_quotes_exist(document: Path) -> None:
    assert [path for path in QUOTED_FILE.findall(prose(document.read_text())) if not (ROOT / path).exists()] == []


COMMENTED_FILE = re.compile(r"^# ((?:[\w.-]+/)*[\w-]+\.(?:py|yaml|md|txt|toml))(?=[:,; ]|$)", re.MULTILINE)


def test_files_of_the_recipes_exist() -> None:
    """CONTRIBUTING.md names each file that a recipe touches in a comment that begins a line; `(new)` marks others."""
    recipes = "".join(block for _, block in CODE.findall((ROOT / "CONTRIBUTING.md").read_text()))
    found = [found for found in COMMENTED_FILE.finditer(recipes) if not recipes[found.end() :].startswith(" (new)")]
    assert len(found) > 30
    assert [path[1] for path in found if not (ROOT / path[1]).exists()] == []


IDENTIFIER = re.compile(r"`@?([A-Za-z]\w*(?:\.\w+)*)(?:\([^`]*\))?`")
SOURCES = ("*.py", "*.yaml", "*.yml", "*.json", "*.html", "*.js", "*.tpl", "*.toml", "Makefile")
FOREIGN = {"OrderCreatedV2", "auth_query", "idle_transaction_timeout", "transaction_timeout"}
"""Names of examples, and of other programs' settings."""


@functools.cache
def words_of_the_code() -> set[str]:
    files = subprocess.run(["git", "ls-files", "-z", "--", *SOURCES], cwd=ROOT, check=True, capture_output=True)
    paths = [ROOT / name for name in files.stdout.decode().split("\0") if name]
    return set(re.findall(r"\w+", " ".join(path.read_text() for path in paths if path.exists())))


@pytest.mark.parametrize("document", WRITTEN, ids=name_of)
def test_names_that_a_document_quotes_exist(document: Path) -> None:
    """Of each quoted word that can only be a name of the code: CamelCase, snake_case, or dotted."""
    text = prose(document.read_text())
    quoted = [
        name
        for name in IDENTIFIER.findall(text)
        if re.search(r"[a-z][A-Z]|[a-z]_[a-z].*[a-z0-9]$|[a-z]\.[a-zA-Z]", name)
    ]
    assert [name for name in quoted if not {*name.split(".")} - FOREIGN <= words_of_the_code()] == []
