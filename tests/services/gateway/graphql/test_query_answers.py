"""Answers of the graph in the shared cache: nobody gets what is another's, an event voids what it changes, and one
computes for all who ask at the same time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from graphql import get_named_type, is_required_argument
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from caravan.auth import Caller
from caravan.cache import Cache, CachedAnswer, Fill
from caravan.clock import new_id
from caravan.runtime import Backends
from services.gateway.graphql import query_answers
from services.gateway.graphql.execution import RequestRefused
from services.gateway.graphql.policy import get_policy
from services.gateway.graphql.queries import READS
from services.gateway.graphql.query_answers import QueryAnswers
from services.gateway.graphql.requests import GraphRequest
from tests.services.gateway.graphql.graph_case import GraphCase
from tests.services.gateway.graphql.test_calls import Catalog
from tests.services.gateway.graphql.test_costs import EXECUTOR, QUERIES, READING, StandInCalls, selections
from tests.services.gateway.snapshots import Mounted, document, endpoint, route
from tests.services.gateway.stand_ins import listening
from tests.support.shop import Shop, run_services, wait_until

CALLERS = [
    None,
    *(Caller(name, role, "s") for name in ("ann", "bob") for role in ("customer", "staff", "admin")),
]
assert QUERIES is not None
KEPT = sorted(name for name, field in QUERIES.fields.items() if (policy := get_policy(field)) and policy.list_tags)
STOCK = "query($sku: String!) { stock(sku: $sku) { available } }"
PRODUCT = "query($sku: String!) { product(sku: $sku) { name stock { available } } }"


class StandInCache:
    """Keeps all for ever, as the shared cache does between two invalidations."""

    def __init__(self) -> None:
        self.entries: dict[str, Fill] = {}

    async def read(self, cache: Cache, key: str, compute: Callable[[], Awaitable[Fill]]) -> CachedAnswer:
        entry_key = cache.build_entry_key(key)
        if entry_key in self.entries:
            return CachedAnswer(self.entries[entry_key].value, "hit", 1.0)
        fill = self.entries[entry_key] = await compute()
        return CachedAnswer(fill.value, "miss")


class LabelledCalls(StandInCalls):
    """Each text of an answer says to whom its service gave it: to a role what is public, else to a user."""

    def __init__(self, caller: Caller | None) -> None:
        super().__init__()
        self.role = caller.role if caller else "anonymous"
        self.user = f"{self.role} {caller.subject}" if caller else "anonymous"

    async def read(self, service: str, path: str, query: Any = None) -> Any:
        is_private = any(read.scope != "public" and read.template == path for read in READS.values())
        return _label(await super().read(service, path, query), self.user if is_private else self.role)


def _label(value: Any, label: str) -> Any:
    if isinstance(value, dict):
        return {key: item if key == "sku" else _label(item, label) for key, item in value.items()}
    if isinstance(value, list):
        return [_label(item, label) for item in value[:3]]
    return f"for {label}" if isinstance(value, str) else value


def list_labels(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set[str]().union(*map(list_labels, value.values()))
    if isinstance(value, list):
        return set[str]().union(*map(list_labels, value))
    return {value} if isinstance(value, str) and value.startswith("for ") else set()


@st.composite
def documents(draw: st.DrawFn) -> str:
    parts = []
    for index, name in enumerate(draw(st.lists(st.sampled_from([*KEPT, "me", "categories"]), min_size=1, max_size=3))):
        assert QUERIES is not None
        field = QUERIES.fields[name]
        arguments = [f'{key}: "A"' for key, argument in field.args.items() if is_required_argument(argument)]
        arguments += ["first: 3"] if "first" in field.args else []
        below = draw(selections(get_named_type(field.type), 4))
        listed = ", ".join(arguments)
        parts.append(f"r{index}: {name}{f'({listed})' if listed else ''} {{ {below} }}")
    return f"{{ {' '.join(parts)} }}"


async def _ask_as_all(text: str, order: list[int]) -> None:
    cache = StandInCache()
    answers = QueryAnswers(EXECUTOR, cache)  # type: ignore[arg-type]
    for index in order:
        caller = CALLERS[index]
        try:
            operation = EXECUTOR.accept_operation(GraphRequest(text), caller, READING)
        except RequestRefused:
            continue
        calls = LabelledCalls(caller)
        answer = await answers.answer_query(operation, caller, "", lambda calls=calls: calls)  # type: ignore[misc]
        assert answer.is_whole, answer
        labels = list_labels(orjson.loads(answer.cached.value or b""))
        assert labels <= {f"for {calls.role}", f"for {calls.user}"}, f"{calls.user} got an answer of somebody else"


shared_answers = given(text=documents(), order=st.permutations([*range(len(CALLERS)), *range(len(CALLERS))]))
few_examples = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False
)
# That there is one is what counts; making it small would take most of this file's time.
first_found = settings(few_examples, phases=[Phase.generate])


@few_examples
@shared_answers
@example(text="{ recommendations { sku } }", order=[*range(len(CALLERS)), *range(len(CALLERS))])  # of each user alone
def test_nobody_gets_an_answer_of_somebody_else(text: str, order: list[int]) -> None:
    asyncio.run(_ask_as_all(text, order))


def test_a_key_without_its_audience_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_answers, "find_audience", lambda operation, caller: "")
    planted = first_found(shared_answers(lambda text, order: asyncio.run(_ask_as_all(text, order))))
    with pytest.raises(AssertionError, match="got an answer of somebody else"):
        planted()


def test_what_no_event_voids_is_not_kept() -> None:
    assert KEPT == ["product", "products", "recommendations", "stock"]
    for text, is_kept in (
        ('{ product(sku: "A") { sku } }', True),
        ('{ product(sku: "A") { sku } me { email } }', False),
        ("{ products(withdrawn: true) { nodes { sku } } }", False),
        ("{ recommendations { sku product { stock { available } } } }", True),
        ("{ __typename }", False),
        ("{ __schema { queryType { name } } }", False),
        ('{ product(sku: "A\\nB") { sku } }', False),
    ):
        operation = EXECUTOR.accept_operation(GraphRequest(text), CALLERS[1], READING)
        assert (query_answers.list_root_tags(operation, CALLERS[1]) is not None) == is_kept, text


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ('{ product(sku: "A") { sku stock { sku } } }', {"product:A", "stock:A"}),
        ('{ stock(sku: "A") { sku } }', {"stock:A"}),
        ("{ products(first: 2) { nodes { sku stock { sku } } } }", {"products", "stock:S0", "stock:S1"}),
        ('{ products(category: "lamps", first: 1) { nodes { sku } } }', {"products-of:lamps"}),
        (
            "{ recommendations(first: 1) { product { stock { sku } } } }",
            {"offered-products", "orders-of-user:ann", "product:S0", "stock:S0"},
        ),
    ],
)
async def test_an_answer_has_the_tags_of_what_it_holds_and_no_more(text: str, tags: set[str]) -> None:
    cache, caller = StandInCache(), CALLERS[1]
    operation = EXECUTOR.accept_operation(GraphRequest(text), caller, READING)
    calls = StandInCalls()
    answers = QueryAnswers(EXECUTOR, cache)  # type: ignore[arg-type]
    await answers.answer_query(operation, caller, "", lambda: calls)  # type: ignore[arg-type,return-value]
    (fill,) = cache.entries.values()
    assert fill.tags == tags


async def _read(
    graph: GraphCase, query: str, headers: dict[str, str] | None = None, **variables: Any
) -> tuple[str, Any]:
    answer = await graph.post(query, headers, **variables)
    assert answer.status_code == 200, answer.text
    return answer.headers["cache-status"].partition("; ")[2].partition(";")[0], answer.json()["data"]


async def test_an_answer_is_kept_until_an_event_changes_what_it_holds(graph: GraphCase) -> None:
    sku = await graph.program.create_product(stock=3)
    admin = await graph.program.authorize_operator()

    async def is_kept() -> bool:
        """Once what its making has changed is announced, too."""
        return (await _read(graph, PRODUCT, sku=sku))[0] == "hit"

    assert (await _read(graph, PRODUCT, sku=sku))[0] == "fwd=miss"
    await wait_until(is_kept, seconds=5)
    changed = await graph.shop.client.patch(f"/v1/products/{sku}", json={"name": "Lamp"}, headers=admin)
    assert changed.status_code == 200, changed.text
    status, data = await _read(graph, PRODUCT, sku=sku)
    assert (status, data["product"]["name"]) == ("fwd=miss", "Lamp")
    body = {"kind": "receive", "quantity": 2}
    moved = await graph.shop.client.post(f"/v1/stock/{sku}/movements", json=body, headers=admin)
    assert moved.status_code == 201

    async def is_new() -> bool:
        return bool((await _read(graph, PRODUCT, sku=sku))[1]["product"]["stock"]["available"] == 5)

    await wait_until(is_new, seconds=5)


async def test_an_answer_says_how_long_it_may_be_kept_and_has_a_tag(graph: GraphCase) -> None:
    sku = await graph.program.create_product(stock=3)
    client, asked = graph.shop.client, {"query": f'{{ stock(sku: "{sku}") {{ available }} }}'}
    first = await client.get("/graphql", params=asked)
    assert first.headers["cache-control"] == "no-cache"
    assert first.headers["graphql-cost"].startswith("estimated=11, actual=11")
    second = await client.get("/graphql", params=asked, headers={"if-none-match": first.headers["etag"]})
    assert (second.status_code, second.content) == (304, b"")
    assert second.headers["cache-status"].startswith("Caravan; hit; ttl=")
    assert second.headers["graphql-cost"].startswith("estimated=11, actual=0")
    who = await graph.program.register_customer()
    own = await graph.post("{ recommendations { sku } }", who)
    assert own.headers["cache-control"] == "private, no-cache"
    assert (await graph.post("{ me { email } }", who)).headers["cache-status"] == "Caravan; fwd=bypass"


async def test_what_is_not_whole_or_writes_is_not_kept(graph: GraphCase) -> None:
    missing = str(new_id())
    for _ in range(2):
        answer = await graph.post(PRODUCT, sku=missing)
        assert answer.json()["errors"][0]["extensions"]["code"] == "NOT_FOUND"
        assert (answer.headers["cache-status"], answer.headers["cache-control"]) == ("Caravan; fwd=miss", "no-store")
        assert "etag" not in answer.headers
    mutation = await graph.post('mutation { revokeToken(input: {token: "a"}) }')
    assert (mutation.headers["cache-status"], mutation.headers["cache-control"]) == (
        "Caravan; fwd=method",
        "no-store",
    )
    refused = await graph.post("{ nothing }")
    assert (refused.status_code, refused.headers["cache-control"]) == (400, "no-store")
    assert refused.headers["cache-status"] == "Caravan; detail=refused"


async def test_two_gateways_compute_an_answer_once_for_all_who_ask(backends: Backends, tmp_path: Path) -> None:
    mounted, catalog, sku = Mounted(tmp_path), Catalog(backends), str(new_id())
    async with listening(catalog.app) as url:
        mounted.put(document(1, {"catalog": [endpoint(url)]}, [route("catalog", auth="Optional")]))
        async with (
            run_services(backends, "gateway", registry_file=mounted.path) as first,
            run_services(backends, "gateway", registry_file=mounted.path) as second,
        ):

            async def is_routed() -> bool:
                return all(shop.get_context("gateway").resources.table.documents for shop in (first, second))

            await wait_until(is_routed)
            catalog.asked.clear()
            catalog.seconds = 0.3

            async def ask(shop: Shop) -> Any:
                body = {"query": "query($sku: String!) { product(sku: $sku) { sku } }", "variables": {"sku": sku}}
                return (await shop.client.post("/graphql", json=body)).json()

            answers = await asyncio.gather(*(ask(shop) for shop in (first, second) for _ in range(250)))
    assert answers == [{"data": {"product": {"sku": sku}}}] * 500
    assert catalog.asked == [sku]
