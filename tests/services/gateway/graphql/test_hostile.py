"""A thousand random and hostile requests over HTTP: none is answered with a failure of ours, none costs more than the
limit, and none keeps the gateway busy.
"""

import json
import random
import re
import time
from typing import Any

import orjson
import pytest
from graphql import GraphQLObjectType, get_named_type, is_required_argument

from services.gateway.graphql.schema import build_schema
from tests.services.gateway.graphql.graph_case import GraphCase
from tests.services.gateway.graphql.test_refusals import REFUSED
from tests.services.gateway.graphql.test_scopes import ROOTS, build_document, make_input

TEXTS = [
    "A",
    "",
    " ",
    "\0",
    "'; DROP TABLE products; --",
    "../../v1/users/me",
    "%2e%2e%2f",
    "9" * 400,
    "\u202e",
    "\U0001f4a5" * 50,
]
SECONDS = 1.0
"""Of this process' time, services and all: on the clock a loaded machine counts too."""
CORE = build_schema().core


def spoil_text(chance: random.Random, text: str) -> str:
    """A few characters taken out, put in or swapped."""
    for _ in range(chance.randint(0, 8)):
        at = chance.randint(0, len(text))
        text = text[:at] + chance.choice('{}()[]:!@$"#&|,. \n\0aZ9') + text[at + chance.randint(0, 3) :]
    return text


def build_selection(chance: random.Random, kind: Any, depth: int) -> str:
    if not isinstance(kind, GraphQLObjectType):
        return ""
    parts = ["__typename"]
    for index, name in enumerate(chance.sample(sorted(kind.fields), min(len(kind.fields), chance.randint(1, 4)))):
        field = kind.fields[name]
        if depth > 6 and isinstance(get_named_type(field.type), GraphQLObjectType):
            continue
        arguments = {
            key: json.dumps(chance.choice(TEXTS)) for key, one in field.args.items() if is_required_argument(one)
        }
        if "first" in field.args:
            arguments["first"] = str(chance.choice([-1, 0, 1, 5, 100, 101, 1000, 2**31]))
        listed = ", ".join(f"{key}: {value}" for key, value in arguments.items())
        alias = f"{chance.choice('abc')}{index}: " if chance.random() < 0.3 else ""
        below = build_selection(chance, get_named_type(field.type), depth + 1)
        parts.append(
            f"{alias}{name}{f'({listed})' if listed else ''}{chance.choice(['', '', ' @skip(if: false)'])}{below}"
        )
    return f" {{ {' '.join(parts)} }}"


def make_hostile(value: Any, chance: random.Random) -> Any:
    """The same shape with texts that nobody expects."""
    if isinstance(value, dict):
        return {key: make_hostile(item, chance) for key, item in value.items()}
    if isinstance(value, list):
        return [make_hostile(item, chance) for item in value] * chance.choice([0, 1, 1, 50])
    return chance.choice(TEXTS) if isinstance(value, str) else chance.choice([value, -1, 2**31 - 1, 2**53, None, "1"])


def build_body(chance: random.Random) -> Any:
    """The body of a request, as JSON or as bytes."""
    way = chance.randrange(6)
    if way == 0:
        text = "".join(chance.choice(list(REFUSED.values())) for _ in range(chance.randint(1, 3)))
        return {"query": spoil_text(chance, text)}
    if way == 1:
        return {
            "query": chance.choice(["query", "mutation", "subscription"]) + build_selection(chance, CORE.query_type, 0)
        }
    if way == 2:
        return {"query": "query" + build_selection(chance, CORE.query_type, 0)}
    if way == 3:
        operation, name, field = ROOTS[chance.choice(sorted(ROOTS))]
        needed = {key: make_input(one.type) for key, one in field.args.items() if is_required_argument(one)}
        return {"query": build_document(operation, name, field), "variables": make_hostile(needed, chance)}
    if way == 4:
        text = "query($a: String) { __typename products(search: $a, first: 1) { nodes { sku } } }"
        return {"query": text, "variables": {"a": "x" * chance.choice([10, 10_000, 1_000_000, 1_100_000])}}
    whole = json.dumps({"query": "{ __typename }", "variables": {"a": TEXTS}}).encode()
    return chance.choice([b"[" + whole + b"]", whole[:-3], b"\xff" + whole, b'{"a":' * 5000, b"", b"[" * 100_000])


async def attack(graph: GraphCase, seed: int, count: int) -> None:
    chance = random.Random(seed)
    callers = [{}, await graph.program.register_customer(), await graph.program.authorize_operator()]
    statuses = set()
    for _ in range(count):
        body, headers = build_body(chance), chance.choice(callers)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        began = time.thread_time()
        answer = await graph.shop.client.post(
            "/graphql", content=content, headers={**headers, "content-type": "application/json"}
        )
        seconds = time.thread_time() - began
        failure = f"{content[:2000]!r} was answered {answer.status_code} {answer.text[:500]} in {seconds:.2f} s"
        assert answer.status_code < 500, failure
        assert seconds < SECONDS, failure
        cost = re.match(r"estimated=(\d+), actual=(\d+), limit=(\d+)", answer.headers.get("graphql-cost", ""))
        if cost:
            estimated, actual, limit = map(int, cost.groups())
            assert actual <= estimated <= limit, failure
        if answer.status_code != 413:
            for error in orjson.loads(answer.content).get("errors", ()):
                problem = error["extensions"]["problem"] if isinstance(error, dict) and "extensions" in error else {}
                assert problem.get("status", 400) < 500, failure
        statuses.add(answer.status_code)
    assert {200, 400} <= statuses


async def test_hostile_requests_are_refused_or_answered(graph: GraphCase) -> None:
    await attack(graph, seed=1, count=120)


@pytest.mark.slow
async def test_a_thousand_hostile_requests_are_refused_or_answered(graph: GraphCase) -> None:
    await attack(graph, seed=2, count=1000)
