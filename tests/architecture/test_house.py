"""The rules of the house that a linter doesn't know, each read from the code itself."""

import ast
import re
from functools import cache
from pathlib import Path

from caravan.messages import Exchange, Queue, Topic
from caravan.runtime import list_subscriptions
from services.registry import SERVICES, load_services
from tools.naming import list_definitions

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("caravan", "services", "cli") for path in (ROOT / folder).rglob("*.py"))
SELF_EXPLANATORY = {"api", "consumers", "main", "settings", "schemas"}
"""What each of these modules of a service holds is in the table of ARCHITECTURE.md."""
BANNED = {"common", "utils", "util", "helpers", "helper", "manager", "managers", "base", "misc", "core"}


@cache
def trees() -> list[tuple[Path, ast.Module]]:
    return [(path.relative_to(ROOT), ast.parse(path.read_text())) for path in SOURCES]


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [str(path) for path in SOURCES if path.stem in BANNED or path.parent.name in BANNED] == []


def test_every_module_whose_name_does_not_say_it_all_begins_with_a_docstring() -> None:
    assert [
        str(path) for path, tree in trees() if ast.get_docstring(tree) is None and path.stem not in SELF_EXPLANATORY
    ] == []


def test_no_function_is_longer_than_sixty_lines() -> None:
    def length(node: ast.AST) -> int:
        return (getattr(node, "end_lineno", 0) or 0) - getattr(node, "lineno", 0) + 1

    long = [
        f"{path}:{node.name} {length(node)}"
        for path, tree in trees()
        if "migrations" not in str(path) and "versions" not in str(path)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and length(node) > 60
    ]
    assert long == []


def test_no_file_is_longer_than_three_hundred_lines_and_no_function_of_a_test_longer_than_sixty() -> None:
    tests = sorted((ROOT / "tests").rglob("*.py"))
    assert [str(path.relative_to(ROOT)) for path in [*SOURCES, *tests] if path.read_text().count("\n") > 300] == []
    assert [
        f"{definition.file.relative_to(ROOT)}:{definition.line}: {definition.name}"
        for definition in list_definitions("tests")
        if definition.kind == "function" and definition.lines > 60
    ] == []


def test_a_declaration_is_short() -> None:
    assert [str(path) for path in SOURCES if path.name == "main.py" and len(path.read_text().splitlines()) > 60] == []


def test_time_is_read_in_one_place() -> None:
    allowed = {"caravan/clock.py"}
    pattern = re.compile(r"datetime\.now\(|datetime\.utcnow\(|time\.sleep\(")
    assert [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if pattern.search(path.read_text()) and str(path.relative_to(ROOT)) not in allowed
    ] == []


def test_connections_are_made_where_tls_and_their_losses_are_known() -> None:
    """Whoever opened one elsewhere would connect without the certificates of CARAVAN_CERTIFICATES, or meet errors of a
    lost connection that nobody expects.
    """
    makers = {
        r"asyncpg\.(connect|create_pool)\(": {"caravan/database/connections.py"},
        r"(Redis|Pool|pool_class)\.from_url\(": {"caravan/redis_pools.py"},
        r"httpx2\.AsyncClient\(": {"cli/up.py"},  # in its own process
        r"bootstrap_servers|bootstrap\.servers": {"caravan/bus/kafka_servers.py"},
    }
    assert [
        f"{path.relative_to(ROOT)}: {pattern}"
        for pattern, allowed in makers.items()
        for path in SOURCES
        if re.search(pattern, path.read_text()) and str(path.relative_to(ROOT)) not in allowed
    ] == []
    by_rabbitmq = [path for path in SOURCES if re.search(r"aio_pika\.Connection\(|RabbitBroker\(", path.read_text())]
    assert [str(path) for path in by_rabbitmq if "get_url_context(" not in path.read_text()] == []


def test_a_deadline_never_swallows_the_end() -> None:
    """`asyncio.wait_for` of Python 3.11 loses a cancellation that comes as the awaited thing does: `asyncio.timeout`
    doesn't.
    """
    assert [str(path.relative_to(ROOT)) for path in SOURCES if "asyncio.wait_for(" in path.read_text()] == []


def test_the_environment_is_read_by_one_module_alone() -> None:
    allowed = {"caravan/environment.py"}
    found = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if re.search(r"os\.(environ|getenv)", path.read_text())
        and str(path.relative_to(ROOT)) not in allowed
        and not str(path.relative_to(ROOT)).startswith("caravan/embedded/")
    ]
    assert found == []


def test_the_kernel_names_no_service() -> None:
    pattern = re.compile(
        r"\b("
        + "|".join(name for name in SERVICES if name not in ("gateway", "orders", "processing", "catalog", "identity"))
        + r")\b"
    )
    named = [
        f"{path}: {node.value}"
        for path, tree in trees()
        if str(path).startswith("caravan/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and "\n" not in node.value
        and len(node.value) < 40
        and pattern.search(node.value)
    ]
    assert named == []


def test_sql_stands_in_stores_alone() -> None:
    pattern = re.compile(r"\b(SELECT .* FROM|INSERT INTO|DELETE FROM|UPDATE \w+ SET)\b")
    found = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if not path.is_relative_to(ROOT / "caravan")
        and "migrations" not in str(path)
        and path.name != "store.py"
        # A provider: an outside system's own books. Tables: what triggers run.
        and path.parent.name not in ("store", "providers", "tables")
        and pattern.search(path.read_text())
    ]
    assert found == []


def test_every_channel_has_an_owner_that_declares_it_and_every_queue_its_owner_as_reader() -> None:
    services = load_services()
    readers = list_subscriptions(services)
    for service in services:
        for channel in service.channels:
            assert channel.owner == service.name, (
                f"{channel.name} is declared by {service.name} and owned by {channel.owner}"
            )
            if isinstance(channel, Queue):
                assert [reader.service for reader in readers if reader.channel == channel.name] == [service.name], (
                    f"{channel.name} is read by its owner"
                )
                assert channel.name.startswith(f"{service.name}."), channel.name
            if isinstance(channel, Topic | Exchange):
                assert re.fullmatch(r"[a-z]+(-[a-z]+)*", channel.name), channel.name
    names = [channel.name for service in services for channel in service.channels]
    assert len(names) == len(set(names))
    assert len({reader.name for reader in readers}) == len(readers), "one reader per subscription"


def test_what_is_read_is_declared_by_somebody() -> None:
    services = load_services()
    declared = {channel.name for service in services for channel in service.channels} | {"audit"}
    assert {reader.channel for reader in list_subscriptions(services)} <= declared


def test_generated_pages_say_what_is_true_now() -> None:
    from tools.generate_docs import render_pages

    stale = [
        path for path, text in render_pages().items() if not (ROOT / path).exists() or (ROOT / path).read_text() != text
    ]
    assert stale == [], "run `make docs`"


def test_nothing_names_a_registry_or_a_machine() -> None:
    pattern = re.compile(r"pypi\.org|pythonhosted|/work/|/root/|npmjs|crates\.io|repo\.maven")
    skipped = {
        ".git",
        ".venv",
        ".caravan",
        "build",
        "__pycache__",
        "results",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".hypothesis",
        ".import_linter_cache",
    }
    found = [
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*")
        if path.is_file()
        and not skipped & set(path.relative_to(ROOT).parts)
        and path.suffix in {".py", ".md", ".toml", ".lock", ".yaml", ".yml", "", ".sh", ".example"}
        if path != Path(__file__) and pattern.search(path.read_text(errors="ignore"))
    ]
    assert found == []


def test_every_job_is_in_the_table_of_the_page_about_jobs() -> None:
    declared = {name for service in load_services() if service.jobs for name in service.jobs.job_types}
    assert (
        set(
            re.findall(
                r"^\| `([a-z]+\.[a-z-]+)` \|", (ROOT / "docs" / "reference" / "jobs.md").read_text(), re.MULTILINE
            )
        )
        == declared
    )


def test_a_service_that_is_busy_says_so_and_not_that_it_has_failed() -> None:
    """A bound that clients can reach, raised as ServiceUnavailable, would open the breaker of the service for
    everybody. The gateway's 503 speaks of others.
    """
    raised = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "services").rglob("*.py")
        if path.relative_to(ROOT / "services").parts[0] != "gateway"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ServiceUnavailable"
    ]
    assert not raised, raised
