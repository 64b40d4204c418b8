"""Answers queries, from the shared cache where all that is asked for says which events change it (`policy.py`).

Whose entry an answer is follows from the plan alone, before anything is looked up: one for each user in a role, or for
each role where anybody may ask for all of it, since services show staff more of the same thing. Whoever asks has been
checked before: the token and its session in `app.py`, the scope in `execution.py`.

Only whole answers are kept: one with an error goes to those who wait for it, and no further.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import orjson
from graphql import OperationType, print_schema

from caravan.auth import Caller
from caravan.cache import Cache, CachedAnswer, Fill, SharedCache
from caravan.cache.declarations import MAX_TAGS
from services.gateway.caches import PUBLIC_ANSWERS, USER_ANSWERS
from services.gateway.graphql.execution import AcceptedOperation, GraphExecutor, measure_cost
from services.gateway.graphql.plan import PlannedField
from services.gateway.graphql.service_calls import ServiceCalls

MakeCalls = Callable[[], ServiceCalls]


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """`cached`: the body, and whether the cache had it. `is_whole`: without errors."""

    cached: CachedAnswer
    cost: str
    is_whole: bool


@dataclass(frozen=True, slots=True)
class _Run:
    body: bytes
    cost: str
    is_whole: bool
    tags: frozenset[str]


class _NotKept(Exception):
    """Ends a computation whose answer is for those alone who wait for it."""

    def __init__(self, run: _Run) -> None:
        super().__init__("an answer of the graph that is not kept")
        self.run = run


class QueryAnswers:
    def __init__(self, executor: GraphExecutor, cache: SharedCache) -> None:
        self._executor = executor
        self._cache = cache
        self._schema_hash = hashlib.sha256(print_schema(executor.schema.core).encode()).hexdigest()

    async def answer_query(
        self, operation: AcceptedOperation, caller: Caller | None, routes: str, make_calls: MakeCalls
    ) -> QueryAnswer:
        """`routes`: what else decides which service is asked. `make_calls`: a computation may begin after the request
        of its caller has ended.
        """
        root_tags = list_root_tags(operation, caller)
        key = build_key(operation, caller, self._schema_hash, routes)
        if root_tags is None or key is None:
            run = await self._run_operation(operation, make_calls(), frozenset())
            return QueryAnswer(CachedAnswer(run.body, "bypass"), run.cost, run.is_whole)
        cache, runs = choose_cache(operation), list[_Run]()

        async def compute() -> Fill:
            run = await self._run_operation(operation, make_calls(), root_tags)
            if not run.is_whole or len(run.tags) > MAX_TAGS or len(run.body) > cache.max_bytes:
                raise _NotKept(run)
            runs.append(run)
            return Fill(run.body, run.tags)

        try:
            cached = await self._cache.read(cache, key, compute)
        except _NotKept as result:
            run = result.run
            return QueryAnswer(CachedAnswer(run.body, "miss"), run.cost, run.is_whole)
        is_own = bool(runs) and cached.result in ("miss", "bypass")
        return QueryAnswer(cached, runs[0].cost if is_own else self._executor.format_cost(operation, 0), is_whole=True)

    async def _run_operation(
        self, operation: AcceptedOperation, calls: ServiceCalls, root_tags: frozenset[str]
    ) -> _Run:
        answer = await self._executor.run_operation(operation, calls)
        cost = self._executor.format_cost(operation, measure_cost(operation, answer, calls))
        return _Run(orjson.dumps(answer), cost, "errors" not in answer, root_tags | calls.tags)


def choose_cache(operation: AcceptedOperation) -> Cache:
    return PUBLIC_ANSWERS if operation.scope == "public" else USER_ANSWERS


def find_audience(operation: AcceptedOperation, caller: Caller | None) -> str:
    """Who shares an entry."""
    if caller is None:
        return "anonymous"
    return caller.role if operation.scope == "public" else f"{caller.role} {caller.subject}"


def build_key(operation: AcceptedOperation, caller: Caller | None, schema_hash: str, routes: str) -> str | None:
    """None for what can't be told apart. The hash of the document stands for its directives too; variables that the
    operation doesn't declare have no part in its answer.
    """
    declared = {item.variable.name.value for item in operation.node.variable_definitions or ()}
    parts = [
        operation.document.hash,
        operation.node.name.value if operation.node.name else None,
        {name: value for name, value in operation.variables.items() if name in declared},
        find_audience(operation, caller),
        schema_hash,
        routes,
    ]
    try:
        return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()
    except orjson.JSONEncodeError:
        return None


def list_root_tags(operation: AcceptedOperation, caller: Caller | None) -> frozenset[str] | None:
    """What voids the answer, as far as its arguments tell; None when something is asked for that nothing voids. The
    tags of what is joined come with the objects.
    """
    if operation.node.operation is not OperationType.QUERY or not operation.fields:
        return None
    tags: set[str] = set()
    for field in operation.fields:
        of_field = field.policy.list_tags(field.arguments, caller) if field.policy.list_tags else None
        if of_field is None or not all(_is_tagged(child) for child in field.children):
            return None
        tags |= of_field
    return frozenset(tags)


def _is_tagged(field: PlannedField) -> bool:
    join = field.policy.join
    return (join is None or join.get_tag is not None) and all(_is_tagged(child) for child in field.children)
