"""The published document against the shop, by schemathesis with every check on; what it is told beside the document
stands in `schemathesis.toml`.
"""

import asyncio
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from schemathesis.checks import CHECKS

from tests.fuzz.conftest import World

ROOT = Path(__file__).parents[2]
MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
PHASES = "examples,coverage,fuzzing,stateful" if MINUTES else "examples,coverage"
MAX_RUN_SECONDS = 300
"""Shorter than a token lives."""
ROLES = ("anonymous", "customer", "admin") if MINUTES else ("admin",)
"""Without minutes whoever is let in everywhere, once through every boundary of a schema; the seed is fixed."""
EVERY = [1] if MINUTES else [5, pytest.param(1, marks=pytest.mark.slow)]
"""Which of the operations in the order of their names: `make test` looks at every fifth."""


@pytest.mark.timeout(MINUTES * 60 + 900)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("every", EVERY)
async def test_schemathesis_finds_nothing(
    world: World, tmp_path: Path, record_property: Any, role: str, every: int
) -> None:
    names = sorted(
        f"{method.upper()} {path}" for path, methods in world.document["paths"].items() for method in methods
    )[::every]
    end, inputs = time.monotonic() + MINUTES * 60 / len(ROLES), 0
    while inputs == 0 or time.monotonic() < end:
        inputs += await _explore(world, tmp_path, role, min(MAX_RUN_SECONDS, end - time.monotonic()), names)
        if MINUTES:
            print(f"fuzz: the document, {role}: {inputs} inputs", flush=True)
    record_property("inputs", inputs)
    assert MINUTES or inputs >= 10 * len(names), "too few to have looked at all of it"


async def _explore(world: World, folder: Path, role: str, seconds: float, names: list[str]) -> int:
    """The number of inputs of one run over the named operations."""
    user_id, headers = await world.user(role) if role != "anonymous" else ("", {})
    # Always somebody else: who changes the own role ends the own session, and would see nothing but 401 from then on.
    existing = {"path.user_id": world.known["user_id"]}
    if MINUTES:
        sku = await world.product()  # of this run: an admin's requests end the sale of what they find
        order = await world.order(sku, headers) if user_id else world.known["order_id"]
        existing |= {"path.sku": sku, "path.order_id": order}
    parameters = "".join(f"{json.dumps(name)} = {json.dumps(value)}\n" for name, value in existing.items())
    config = folder / "schemathesis.toml"
    config.write_text(f"{(ROOT / 'schemathesis.toml').read_text()}\n[parameters]\n{parameters}")
    budget = ["--max-time", str(max(30, int(seconds)))] if MINUTES else ["--generation-deterministic", "--seed", "1"]
    run = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "schemathesis"),
        "--no-color",
        "--config-file",
        str(config),
        "run",
        str(world.client.base_url.join("/openapi.json")),
        *(part for value in headers.values() for part in ("-H", f"Authorization: {value}")),
        *("--checks", "all", "--phases", PHASES, "--workers", "1", *budget),
        *(part for name in names for part in ("--include-name", name)),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await run.communicate())[0].decode()
    assert run.returncode == 0, output
    if headers:
        assert (await world.client.get("/v1/users/me", headers=headers)).status_code == 200, (
            "the run has ended its own session: it saw 401 only"
        )
    counted = re.search(r"([\d,]+) generated", output)
    assert counted is not None, output
    return int(counted[1].replace(",", ""))


def test_the_checks_that_all_stands_for_are_there() -> None:
    """A new version of schemathesis may bring more, which `all` takes; none may go unseen."""
    import schemathesis.specs.openapi.checks  # noqa: F401  # registers them

    expected = {
        "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection", "positive_data_acceptance", "missing_required_header", "unsupported_method",
        "allow_header_conformance",
        "use_after_free", "ensure_resource_availability", "ignored_auth",
    }  # fmt: skip
    assert expected <= set(CHECKS.get_all_names())
