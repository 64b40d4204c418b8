"""No operation costs more than was estimated, and no document, however hostile, does more than be refused, in time."""

import asyncio
import random
import re
import time
from collections import Counter
from typing import Any

import pytest
from graphql import (
    GraphQLField,
    GraphQLNamedType,
    GraphQLObjectType,
    OperationType,
    get_named_type,
    is_list_type,
    is_non_null_type,
    is_required_argument,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caravan.auth import Caller
from caravan.clock import new_id
from services.gateway.graphql.documents import DocumentStore
from services.gateway.graphql.execution import AcceptedOperation, GraphExecutor, RequestRefused, measure_cost
from services.gateway.graphql.policy import get_policy
from services.gateway.graphql.queries import READS
from services.gateway.graphql.reads import PageRead
from services.gateway.graphql.requests import GraphRequest
from services.gateway.graphql.schema import build_schema
from services.gateway.reference.pages import STATIC
from services.inventory.client import Availabilities, Availability
from tests.services.gateway.graphql.test_refusals import REFUSED

SCHEMA = build_schema()
CORE = SCHEMA.core
QUERIES = CORE.query_type
assert QUERIES is not None
EXECUTOR = GraphExecutor(SCHEMA, DocumentStore(CORE, {}, is_closed=False, allow_introspection=True), max_cost=3000)
ADMIN = Caller(str(new_id()), "admin", "s")
READING = frozenset({OperationType.QUERY})
NESTED = 120
"""So many objects has each list inside an object: more than it gives without `first`."""


def make_value(kind: Any, depth: int = 0) -> Any:
    """JSON of a type, as its service would answer it."""
    if is_non_null_type(kind):
        kind = kind.of_type
    if is_list_type(kind):
        return [make_value(kind.of_type, depth + 1) for _ in range(NESTED if depth < 2 else 1)]
    if isinstance(kind, GraphQLObjectType):
        value = {}
        for field in kind.fields.values():
            policy = get_policy(field)
            if policy is None or policy.join is None:
                value[_read_key(field)] = make_value(field.type, depth + 1)
        return value
    return {"Boolean": True, "String": "A", "Float": 0.5}.get(kind.name, 1)


def _read_key(field: GraphQLField) -> str:
    return str(field.extensions["strawberry-definition"].python_name).removesuffix("_")


class StandInCalls:
    """Answers every call with as much as it may hold."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()
        self.tags: set[str] = set()

    async def read(self, service: str, path: str, query: Any = None) -> Any:
        self.made[service] += 1
        if query and query.get("skus"):
            return {"items": [{**make_value(CORE.type_map["Product"]), "sku": sku} for sku in query["skus"].split(",")]}
        name, read = next(
            (name, read)
            for name, read in READS.items()
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", read.template), path) and read.service == service
        )
        first, *rest = name.split("_")
        assert QUERIES is not None
        kind = QUERIES.fields[first + "".join(word.capitalize() for word in rest)].type
        if isinstance(read, PageRead):
            node = get_named_type(get_named_type(kind).fields["nodes"].type)
            items = [{**make_value(node), "sku": f"S{n}"} for n in range(query["limit"])]
            return {"items": items, "next_cursor": "more"}
        if is_list_type(kind):
            return {"items": [{**make_value(get_named_type(kind)), "sku": f"S{n}"} for n in range(query["limit"])]}
        return make_value(kind)

    async def ask(self, operation: Any, request: Any) -> Availabilities:
        self.made[operation.service] += 1
        return Availabilities(stock=[Availability(sku=sku, on_hand=2, reserved=1, available=1) for sku in request.skus])

    def cancel_reads(self) -> None:
        pass


@st.composite
def selections(draw: st.DrawFn, kind: GraphQLNamedType, depth: int = 0) -> str:
    assert isinstance(kind, GraphQLObjectType)
    names = [
        name
        for name, field in kind.fields.items()
        if depth < 6 or not isinstance(get_named_type(field.type), GraphQLObjectType)
    ]
    parts = ["__typename"]
    selected = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)) if names else []
    for index, name in enumerate(selected):
        field = kind.fields[name]
        arguments = {key: '"A"' for key, argument in field.args.items() if is_required_argument(argument)}
        if "first" in field.args and draw(st.booleans()):
            arguments["first"] = str(draw(st.integers(1, 100 if depth == 0 else 40)))
        listed = ", ".join(f"{key}: {value}" for key, value in arguments.items())
        named = get_named_type(field.type)
        below = f" {{ {draw(selections(named, depth + 1))} }}" if isinstance(named, GraphQLObjectType) else ""
        alias = f"alias{index}: " if draw(st.booleans()) else ""
        skipped = draw(st.sampled_from(["", "", " @skip(if: false)", " @include(if: false)"]))
        parts.append(f"{alias}{name}{f'({listed})' if listed else ''}{skipped}{below}")
    return " ".join(parts)


def _accept(text: str) -> tuple[AcceptedOperation | None, Any]:
    try:
        return EXECUTOR.accept_operation(GraphRequest(text), ADMIN, READING), None
    except RequestRefused as refused:
        return None, {**refused.errors[0], "http": refused.status}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=selections(QUERIES).map(lambda text: f"{{ {text} }}"))
def test_no_query_costs_more_than_estimated(text: str) -> None:
    calls = StandInCalls()
    operation, error = _accept(text)
    if operation is None:
        assert error["extensions"]["code"] == "TOO_EXPENSIVE"
        return
    answer = asyncio.run(EXECUTOR.run_operation(operation, calls))  # type: ignore[arg-type]
    assert "errors" not in answer, answer["errors"]
    assert measure_cost(operation, answer, calls) <= operation.cost  # type: ignore[arg-type]


def test_a_level_is_one_call_of_each_service() -> None:
    """For each field that is joined, below each list that holds it."""
    joined = "product { stock { available } }"
    for text, expected in (
        (
            "products(first: 50) { nodes { stock { available } } edges { node { sku } } }",
            {"catalog": 1, "inventory": 1},
        ),
        (
            f"orders(first: 10) {{ nodes {{ lines(first: 10) {{ {joined} }} }} }}",
            {"orders": 1, "catalog": 1, "inventory": 1},
        ),
        (f"recommendations(first: 40) {{ {joined} }}", {"recommendations": 1, "catalog": 1, "inventory": 1}),
        (
            f'productRecommendations(sku: "A") {{ a: {joined} b: {joined} }}',
            {"recommendations": 1, "catalog": 1, "inventory": 1},
        ),
    ):
        calls = StandInCalls()
        operation = EXECUTOR.accept_operation(GraphRequest(f"{{ {text} }}"), ADMIN, READING)
        answer = asyncio.run(EXECUTOR.run_operation(operation, calls))  # type: ignore[arg-type]
        assert "errors" not in answer, answer
        assert dict(calls.made) == expected, text


@pytest.mark.parametrize("name", REFUSED)
def test_a_document_is_refused_before_it_costs(name: str) -> None:
    began = time.thread_time()
    operation, _ = _accept(REFUSED[name])
    assert operation is None
    assert time.thread_time() - began < 0.5


def test_a_thousand_hostile_documents_are_refused_in_time() -> None:
    chance = random.Random(16)
    pieces = [
        *REFUSED.values(),
        "{ me { id } }",
        "query($a: [Int!]) { __typename }",
        "...",
        "@",
        "$a",
        '"""',
        "\\u",
        "\ud800",
    ]
    slowest = 0.0
    for _ in range(1000):
        text = "".join(chance.choice(pieces) for _ in range(chance.randint(1, 4)))
        for _ in range(chance.randint(0, 8)):
            at = chance.randint(0, len(text))
            text = text[:at] + chance.choice('{}()[]:!@$"#&|,. \n\0aZ9') + text[at + chance.randint(0, 3) :]
        began = time.thread_time()
        operation, error = _accept(text)
        assert (error["http"] == 400) if operation is None else operation.cost <= EXECUTOR.max_cost
        slowest = max(slowest, time.thread_time() - began)
    assert slowest < 1


def test_the_page_to_try_the_graph_asks_within_the_limits() -> None:
    """Its script, read as text: for the schema, and what it begins with."""
    script = (STATIC / "graphql.js").read_text()
    texts = dict(re.findall(r'^const (\w+) = [`"](.*?)[`"];$', script, re.DOTALL | re.MULTILINE))
    for text in (texts["SCHEMA"].replace("${TYPE}", texts["TYPE"]), texts["START"]):
        operation, error = _accept(text)
        assert operation is not None, error
