"""The merged document against the shop: generated requests, sensible and senseless, must find nothing that it doesn't say."""

import asyncio
import contextlib
import traceback
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from tests.api.conftest import World

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def explore(operation: Any, mode: GenerationMode, examples: int, base: str, headers: dict[str, str], known: dict[str, str]) -> None:
    """Every second request is about things that exist."""

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode), existing=st.booleans())
    def ask(case: Any, existing: bool) -> None:
        if existing:
            case.path_parameters.update({name: known[name] for name in case.path_parameters if name in known})
        response = case.call(base_url=base, headers=headers, timeout=20)
        case.validate_response(response, checks=CHECKS)
        if response.status_code >= 400 and not (response.headers["content-type"][0].startswith("text/html") and answers_people(operation)):
            assert response.headers["content-type"][0] == "application/problem+json", response.headers["content-type"]

    with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # a route without any input has no senseless one
        ask()


def answers_people(operation: Any) -> bool:
    return "text/html" in operation.definition.raw["responses"].get("200", {}).get("content", {})


def streams(operation: Any) -> bool:
    return "text/event-stream" in operation.definition.raw["responses"].get("200", {}).get("content", {})


# The shop runs in a thread beside the generator, and draws from the same `random` for its pauses.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.parametrize("examples", [4, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize("role", ["customer", "admin"])
async def test_no_request_finds_a_server_error_or_an_undocumented_answer(world: World, role: str, examples: int) -> None:
    """`examples` per route and kind of request."""
    user_id, headers = await world.user(role)
    known = {**world.known, "user_id": user_id, "order_id": await world.order(world.known["sku"], headers)}
    schema = schemathesis.openapi.from_dict(world.document)
    base = str(world.client.base_url).rstrip("/")
    failures = []
    for found in schema.get_all_operations():
        operation = found.ok()
        if streams(operation):
            continue
        for mode in GenerationMode:
            try:
                await asyncio.to_thread(explore, operation, mode, examples, base, headers, known)
            except (Exception, FailureGroup) as error:
                failures.append(f"{operation.label} {mode.value}: {''.join(traceback.format_exception(error))}")
    assert not failures, "\n\n".join(failures)
