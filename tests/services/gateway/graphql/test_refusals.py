"""What is refused before it is run, by limits of its shape, its cost or its caller's scope: no service is called."""

import time
from typing import Any

import pytest

from services.gateway.graphql import documents
from services.gateway.graphql.service_calls import ServiceCalls
from tests.services.gateway.graphql.graph_case import GraphCase

SAME = "products { nodes { sku } } " * 270
"""Fields of one name, each of which the validator compares with each other."""
REFUSED = {
    "a broken document": "{ products { nodes ",
    "an unknown field": "{ secrets }",
    "no selection": "{ products }",
    "two tokens too many": "{" + " __typename" * documents.MAX_TOKENS + "}",
    "brackets": "{ product(sku: " + "[" * 500 + "]" * 500 + ") { sku } }",
    "levels": "{a" * 400 + "}" * 400,
    "introspective levels": "{ __schema { types " + "{ fields { type " * 20 + "{ name }" + "} }" * 20 + "} }",
    "aliases": "{" + " ".join(f"a{n}: __typename" for n in range(documents.MAX_ALIASES + 1)) + "}",
    "root fields": "{" + " ".join(f'a{n}: product(sku: "A") {{ sku }}' for n in range(11)) + "}",
    "a circle of fragments": "{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }",
    "fragments that double": "{ ...f0 } "
    + " ".join(f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(20))
    + " fragment f20 on Query { __typename }",
    "one field many times": "{ products { nodes {" + " sku" * 200 + "} } }",
    "directives repeated": "{ __typename" + " @include(if: true)" * 100 + " }",
    "a list that is too long": "{ products(first: 101) { nodes { sku } } }",
    "a list of nothing": "{ products(first: 0) { nodes { sku } } }",
    "a subscription": "subscription { __typename }",
    "a definition": "type Query { a: Int }",
    "a fragment twice": "{ ...a } fragment a on Query {" + SAME + "} fragment a on Query { __typename }",
    "an operation twice": "query a {" + SAME + "} query a { __typename }",
    "an operation without a name twice": "{" + SAME + "} { __typename }",
    "a fragment that nobody spreads": "{ __typename } fragment a on Query {" + SAME + "}",
    "a circle that nobody spreads": "{ __typename } fragment a on Query {" + SAME + " ...a }",
    "the schema, again and again": "{"
    + " ".join(f"s{n}: __schema {{ types {{ name fields {{ name }} }} }}" for n in range(10))
    + "}",
    "operations": " ".join(f"query q{n} {{ __typename }}" for n in range(documents.MAX_OPERATIONS + 1)),
    "variables used in each operation": " ".join(f"query q{n}($a: Int) {{ ...f }}" for n in range(100))
    + " fragment f on Query { categories(first: ["
    + "$a, " * 500
    + "]) { nodes { name } } }",
}
EXPENSIVE = "{ orders(first: 100) { nodes { lines(first: 1000) { product { stock { sku } } } } } }"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[ServiceCalls]:
    """The calls of every operation that was run."""
    seen: list[ServiceCalls] = []
    original = ServiceCalls.__init__

    def note(self: ServiceCalls, *arguments: Any) -> None:
        original(self, *arguments)
        seen.append(self)

    monkeypatch.setattr(ServiceCalls, "__init__", note)
    return seen


@pytest.mark.parametrize("name", REFUSED)
async def test_documents_that_are_refused(graph: GraphCase, name: str, made: list[ServiceCalls]) -> None:
    began = time.thread_time()
    answer = await graph.post(REFUSED[name])
    assert answer.status_code == 400, answer.text
    assert time.thread_time() - began < 1
    error = answer.json()["errors"][0]
    assert error["extensions"]["problem"]["status"] == 400
    assert error["extensions"]["problem"]["trace_id"]
    assert "data" not in answer.json()
    assert made == []


async def test_what_costs_too_much_is_refused_with_its_cost(graph: GraphCase, made: list[ServiceCalls]) -> None:
    answer = await graph.post(EXPENSIVE, await graph.program.register_customer())
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["extensions"]["code"] == "TOO_EXPENSIVE"
    assert answer.headers["graphql-cost"].endswith("limit=10000")
    assert made == []


async def test_the_cost_counts_variables_and_is_said(graph: GraphCase) -> None:
    query = "query($first: Int!) { products(first: $first) { nodes { sku } } }"
    costs = [(await graph.post(query, first=first)).headers["graphql-cost"] for first in (1, 100)]
    assert [cost.partition(",")[0] for cost in costs] == ["estimated=12", "estimated=111"]


async def test_who_may_not_ask_is_refused_before_anybody_is_called(graph: GraphCase, made: list[ServiceCalls]) -> None:
    who = await graph.program.register_customer()
    made.clear()
    for query, headers, status in (
        ("{ me { email } }", {}, 401),
        ("{ products { nodes { sku } } dashboard { day } }", who, 403),
        ("{ users { nodes { email } } }", who, 403),
    ):
        answer = await graph.post(query, headers)
        assert answer.status_code == status, answer.text
    assert made == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[]", 400),
        (b'[{"query": "{ __typename }"}]', 400),
        (b"{", 400),
        (b'"{ __typename }"', 400),
        (b'{"query": 1}', 400),
        (b'{"query": "{ __typename }", "variables": []}', 400),
        (b'{"query": "{ __typename }", "also": 1}', 400),
        (b'{"query": "query($a: Int) { __typename }", "variables": {"a": "x"}}', 400),
        (b'{"variables": ' + b'{"a":' * 2000 + b"1" + b"}" * 2000 + b"}", 400),
        (b'{"query": "{ __typename }", "variables": {"a": "' + b"x" * 1_000_000 + b'"}}', 200),
        (b'{"query": "{ __typename }", "variables": {"a": "' + b"x" * 1_100_000 + b'"}}', 413),
    ],
)
async def test_bodies_that_are_no_request(graph: GraphCase, body: bytes, status: int) -> None:
    answer = await graph.shop.client.post("/graphql", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text[:300]


async def test_a_link_can_ask_and_never_write(graph: GraphCase) -> None:
    client = graph.shop.client
    assert (await client.get("/graphql", params={"query": "{ __typename }"})).json() == {
        "data": {"__typename": "Query"}
    }
    mutation = 'mutation { revokeToken(input: {token: "a"}) }'
    assert (await client.get("/graphql", params={"query": mutation})).status_code == 400
    form = await client.post("/graphql", content=mutation, headers={"content-type": "text/plain"})
    assert form.status_code == 415, "a form of another site can't post one either"


async def test_each_sign_in_counts(graph: GraphCase, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    limiter = graph.shop.get_context("gateway").resources.rate_limiter
    original = limiter.take_token

    async def note(rate_class: Any, key: str) -> Any:
        taken.append(rate_class.name)
        return await original(rate_class, key)

    monkeypatch.setattr(limiter, "take_token", note)
    login = 'issueTokens(input: {grantType: "password", username: "nobody@example.com", password: "x"}) { expiresIn }'
    answer = await graph.post(f"mutation {{ a: {login} b: {login} c: {login} }}")
    assert taken == ["reads", "auth", "auth", "auth"]
    problems = [error["extensions"]["problem"]["status"] for error in answer.json()["errors"]]
    assert len(problems) == 3
    assert all(400 <= status < 500 for status in problems)
