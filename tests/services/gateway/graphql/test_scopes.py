"""Who may ask for which field at the root, for each field and each caller: decided before anything is run."""

from typing import Any

import pytest
from graphql import (
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLObjectType,
    OperationType,
    get_named_type,
    is_list_type,
    is_non_null_type,
    is_required_argument,
    is_required_input_field,
)

from caravan.auth import Caller, Role
from caravan.clock import new_id
from services.gateway.graphql.execution import RequestRefused
from services.gateway.graphql.policy import SCOPES, get_policy
from services.gateway.graphql.requests import GraphRequest
from services.gateway.graphql.schema import build_schema
from tests.services.gateway.graphql.test_costs import EXECUTOR

CORE = build_schema().core
ROOTS = {
    f"{operation.value} {name}": (operation, name, field)
    for operation in OperationType
    if (root := CORE.get_root_type(operation)) is not None
    for name, field in root.fields.items()
}
CALLERS: dict[str, Role | None] = {"public": None, "user": "customer", "staff": "staff", "admin": "admin"}


def build_document(operation: OperationType, name: str, field: GraphQLField) -> str:
    arguments = {key: item.type for key, item in field.args.items() if is_required_argument(item)}
    declared = ", ".join(f"${key}: {kind}" for key, kind in arguments.items())
    given = ", ".join(f"{key}: ${key}" for key in arguments)
    below = " { __typename }" if isinstance(get_named_type(field.type), GraphQLObjectType) else ""
    return f"{operation.value}{f'({declared})' if declared else ''} {{ {name}{f'({given})' if given else ''}{below} }}"


def make_input(kind: Any) -> Any:
    """The least value of an input's type."""
    if is_non_null_type(kind):
        kind = kind.of_type
    if is_list_type(kind):
        return [make_input(kind.of_type)]
    if isinstance(kind, GraphQLInputObjectType):
        return {key: make_input(item.type) for key, item in kind.fields.items() if is_required_input_field(item)}
    return {"Boolean": True, "String": "A"}.get(kind.name, 1)


def find_status(root: str, caller: Caller | None) -> int:
    """How it is refused, 200 when it is not."""
    operation, name, field = ROOTS[root]
    variables = {key: make_input(item.type) for key, item in field.args.items() if is_required_argument(item)}
    request = GraphRequest(build_document(operation, name, field), variables=variables)
    try:
        EXECUTOR.accept_operation(request, caller, frozenset(OperationType))
    except RequestRefused as refused:
        return refused.status
    return 200


@pytest.mark.parametrize("root", ROOTS)
def test_each_caller_is_let_through_or_refused(root: str) -> None:
    policy = get_policy(ROOTS[root][2])
    assert policy is not None
    assert policy.scope is not None
    for scope, role in CALLERS.items():
        caller = Caller(str(new_id()), role, "s") if role else None
        may_ask = SCOPES.index(scope) >= SCOPES.index(policy.scope)
        assert find_status(root, caller) == (200 if may_ask else 401 if caller is None else 403), scope
