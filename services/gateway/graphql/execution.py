"""Runs an operation: its document is found, its plan made, its cost and its caller's scope checked, and only then is a
service called.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import GraphQLError, OperationDefinitionNode, OperationType
from graphql.execution.values import get_variable_values
from strawberry.types import ExecutionResult as StrawberryResult
from strawberry.types import Info

from caravan.auth import Caller
from caravan.errors import Forbidden, Problem, Unauthorized
from services.gateway.graphql.documents import DocumentInvalid, DocumentStore, KnownDocument
from services.gateway.graphql.errors import format_error, format_problem
from services.gateway.graphql.joins import attach_joins
from services.gateway.graphql.plan import PlanBuilder, PlannedField, estimate_cost, find_scope
from services.gateway.graphql.policy import CALL_COST, JsonObject, Scope
from services.gateway.graphql.requests import GraphRequest
from services.gateway.graphql.schema import Schema
from services.gateway.graphql.service_calls import ServiceCalls


@dataclass(frozen=True, slots=True)
class AcceptedOperation:
    """An operation that may be run. `cost`: the most that it can cost."""

    document: KnownDocument
    node: OperationDefinitionNode
    variables: dict[str, Any]
    fields: tuple[PlannedField, ...]
    cost: int
    scope: Scope


@dataclass(slots=True)
class OperationContext:
    """What resolvers get."""

    document: KnownDocument
    calls: ServiceCalls
    fields: dict[str, PlannedField]

    async def attach_joins(self, info: Info[Any, Any], value: Any) -> None:
        await attach_joins(self.calls, self.fields[str(info.path.key)].children, value)


class RequestRefused(Exception):
    """The operation was not run, and no service was called for it."""

    def __init__(self, status: int, errors: list[Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(str(errors[0]["message"]))
        self.status = status
        self.errors = errors
        self.headers = dict(headers or {})


class GraphExecutor:
    def __init__(self, schema: Schema, documents: DocumentStore, max_cost: int) -> None:
        self.schema = schema
        self._documents = documents
        self.max_cost = max_cost

    def accept_operation(
        self, request: GraphRequest, caller: Caller | None, allowed: frozenset[OperationType]
    ) -> AcceptedOperation:
        """Raises RequestRefused."""
        try:
            document = self._documents.get_document(request.text, request.hash)
            node = _choose_operation(document, request.operation_name)
            if node.operation not in allowed:
                raise GraphQLError(f"a {node.operation.value} can't be sent in this way; see the page on GraphQL")
            variables = get_variable_values(
                self.schema.core, node.variable_definitions or (), dict(request.variables), max_errors=5
            )
            if isinstance(variables, list):
                raise DocumentInvalid(variables)
            fields = PlanBuilder(self.schema.core, document.fragments, variables).plan_operation(node)
        except DocumentInvalid as invalid:
            raise RequestRefused(400, [format_error(error) for error in invalid.errors]) from None
        except GraphQLError as error:
            raise RequestRefused(400, [format_error(error)]) from None
        except RecursionError:
            raise RequestRefused(400, [format_error(GraphQLError("the request is nested too deeply"))]) from None
        cost, scope = estimate_cost(fields), find_scope(fields)
        if cost > self.max_cost:
            raise RequestRefused(
                400,
                [
                    format_error(
                        GraphQLError(
                            f"the operation may cost {cost}; at most {self.max_cost} is taken: ask for shorter lists "
                            "with `first`, or in several requests",
                            extensions={"code": "TOO_EXPENSIVE"},
                        )
                    )
                ],
                {"GraphQL-Cost": f"estimated={cost}, limit={self.max_cost}"},
            )
        _require_scope(scope, caller)
        self._documents.keep_document(document)
        return AcceptedOperation(document, node, dict(request.variables), fields, cost, scope)

    async def run_operation(self, operation: AcceptedOperation, calls: ServiceCalls) -> JsonObject:
        """The answer to a query or a mutation."""
        try:
            result = await self.schema.execute(
                operation.document.hash,
                variable_values=operation.variables,
                context_value=_build_context(operation, calls),
                operation_name=operation.node.name.value if operation.node.name else None,
            )
            return render_result(result)
        finally:
            calls.cancel_reads()

    async def subscribe(self, operation: AcceptedOperation, calls: ServiceCalls) -> AsyncGenerator[JsonObject, None]:
        """The answers of a subscription, one for each event."""
        results: Any = await self.schema.subscribe(
            operation.document.hash,
            variable_values=operation.variables,
            context_value=_build_context(operation, calls),
            operation_name=operation.node.name.value if operation.node.name else None,
        )
        try:
            if isinstance(results, StrawberryResult):
                yield render_result(results)
                return
            async for result in results:
                yield render_result(result)
        finally:
            calls.cancel_reads()

    def format_cost(self, operation: AcceptedOperation, actual: int) -> str:
        """The header that says what the operation could have cost, and what it did."""
        return f"estimated={operation.cost}, actual={actual}, limit={self.max_cost}"


def measure_cost(operation: AcceptedOperation, answer: JsonObject, calls: ServiceCalls) -> int:
    """What an operation did cost."""
    return calls.made.total() * CALL_COST + _count_objects(operation.fields, answer.get("data"))


def render_result(result: Any) -> JsonObject:
    answer: JsonObject = {"data": result.data}
    if result.errors:
        answer["errors"] = [format_error(error) for error in result.errors]
    return answer


def _count_objects(fields: tuple[PlannedField, ...], data: Any) -> int:
    if isinstance(data, list):
        return sum(_count_objects(fields, item) for item in data)
    if not isinstance(data, dict):
        return 0
    count = 0
    for item in fields:
        value = data.get(item.response_key)
        if item.size and value is not None:
            count += len(value) if isinstance(value, list) else 1
            count += _count_objects(item.children, value)
    return count


def _build_context(operation: AcceptedOperation, calls: ServiceCalls) -> OperationContext:
    return OperationContext(operation.document, calls, {item.response_key: item for item in operation.fields})


def _choose_operation(document: KnownDocument, name: str | None) -> OperationDefinitionNode:
    if name is None and len(document.operations) == 1:
        return next(iter(document.operations.values()))
    if name is None or name not in document.operations:
        names = ", ".join(sorted(document.operations)) or "none"
        raise GraphQLError(f"name one of the document's operations as `operationName`; there are: {names}")
    return document.operations[name]


def _require_scope(scope: Scope, caller: Caller | None) -> None:
    if scope == "public":
        return
    if caller is None:
        refusal: Problem = Unauthorized("this operation needs an access token; send `Authorization: Bearer <token>`")
        raise RequestRefused(401, [format_problem(refusal)], refusal.headers)
    if scope != "user" and not caller.has_role(scope):
        raise RequestRefused(403, [format_problem(Forbidden(f"this is for {scope}; you are {caller.role}"))])
