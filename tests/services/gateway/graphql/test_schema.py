"""The graph and the REST API say the same: every write is a mutation, every root field has the scope that REST has, and
no list is without a bound.
"""

from types import SimpleNamespace
from typing import Any

import pytest
from graphql import GraphQLObjectType, get_named_type, is_list_type, is_non_null_type

from caravan.http import create_app
from services.gateway.admin import dead_letters, job_admin
from services.gateway.api import router
from services.gateway.graphql.mutations import WRITES
from services.gateway.graphql.policy import SCOPES, get_policy
from services.gateway.graphql.queries import READS
from services.gateway.graphql.schema import build_schema
from services.gateway.reference.openapi import list_operations
from services.registry import SERVICES, load_services

CORE = build_schema().core
NO_MUTATION = {
    "POST /v1/auth/password-reset/page": "a form of a page that a mail links to",
    "POST /v1/auth/verification/page": "a form of a page that a mail links to",
    "DELETE /v1/notifications/undeliverable-addresses/{address}": "of who looks after the mail server",
    "POST /v1/notifications/delivery-reports": "what a mail server sends back, signed",
    "POST /v1/notifications/bounces": "what a mail provider reports, signed",
    "POST /v1/notifications/preferences/{token}": "a form of a page that a mail links to",
    "POST /v1/notifications/unsubscribe/{token}": "one click of a mail reader (RFC 8058)",
}
NO_QUERY = {
    "GET /.well-known/jwks.json": "for verifiers of tokens",
    "GET /.well-known/openid-configuration": "for clients of OpenID Connect",
    "GET /v1/auth/callback": "a redirect of a browser",
    "GET /v1/auth/login": "a redirect of a browser",
    "GET /v1/auth/password-reset/page": "a page",
    "GET /v1/auth/providers": "before anybody has signed in",
    "GET /v1/auth/verification/page": "a page",
    "GET /v1/notifications/preferences/{token}": "a page",
    "GET /v1/notifications/undeliverable-addresses": "of who looks after the mail server",
    "GET /v1/notifications/unsubscribe/{token}": "a page",
    "GET /v1/orders/{order_id}/events": "a live stream",
    "GET /v1/stock/{sku}/events": "a live stream",
    "GET /v1/orders/{order_id}/invoice": "a PDF",
    "GET /v1/payments/{order_id}/provider-ledger": "the books of somebody else, for comparing by hand",
    "GET /v1/jobs/queues": "of the command line",
    "GET /v1/me/overview": "what the graph puts together itself: me, orders, notifications, recommendations",
}


def _list_rest_operations() -> dict[str, dict[str, Any]]:
    """Of the services that the graph has: a new one may do without."""
    names = {read.service for read in READS.values()} | {write.service for write in WRITES.values()}
    routers = {service.name: service.routers for service in load_services(SERVICES) if service.name in names}
    routers["gateway"] = (router, dead_letters.router, job_admin.router)
    operations: dict[str, dict[str, Any]] = {}
    for name, of_service in routers.items():
        if of_service:
            app = create_app(name, of_service, SimpleNamespace(secret="x", refused=None), None)
            for path, method, operation in list_operations(app.fastapi.openapi()):  # type: ignore[attr-defined]
                operations[f"{method.upper()} {path}"] = operation
    return operations


REST = _list_rest_operations()


def _find_role(operation: dict[str, Any]) -> str:
    """The scope that REST's security says."""
    roles = [role for item in operation.get("security", ()) for role in item.get("bearer", ())]
    return {"customer": "user"}.get(roles[0], roles[0]) if roles else "public"


def test_each_write_of_rest_is_a_mutation_or_has_a_reason_not_to_be() -> None:
    writes = {name for name in REST if not name.startswith("GET ")}
    assert {write.request for write in WRITES.values()} == writes - NO_MUTATION.keys()
    assert NO_MUTATION.keys() <= writes


def test_each_read_of_rest_is_a_query_or_has_a_reason_not_to_be() -> None:
    reads = {name for name in REST if name.startswith("GET ")}
    assert {f"GET {read.template}" for read in READS.values()} == reads - NO_QUERY.keys()
    assert NO_QUERY.keys() <= reads


@pytest.mark.parametrize("name", WRITES)
def test_a_mutation_takes_what_its_write_takes(name: str) -> None:
    write, operation = WRITES[name], REST[WRITES[name].request]
    headers = {
        item["name"]: item.get("required", False) for item in operation.get("parameters", ()) if item["in"] == "header"
    }
    assert write.key == {None: "", True: "required", False: "optional"}[headers.get("idempotency-key")]
    assert write.has_if_match == ("if-match" in headers)
    assert (write.body is not None) == ("requestBody" in operation)
    assert write.scope == _find_role(operation)
    fields = CORE.mutation_type.fields  # type: ignore[union-attr]
    paths = {item["name"] for item in operation.get("parameters", ()) if item["in"] == "path"}
    assert write.parameters.keys() == paths
    assert _to_camel(name) in fields


@pytest.mark.parametrize("name", READS)
def test_a_query_takes_what_its_read_takes(name: str) -> None:
    read, operation = READS[name], REST[f"GET {READS[name].template}"]
    given = {item["name"] for item in operation.get("parameters", ()) if item["in"] in ("path", "query")}
    taken = {key.removesuffix("_") for key in (*read.required, *read.optional, *read.query)}
    assert given - taken - {"limit", "cursor", "format", "view"} == set()
    assert taken <= given
    assert read.scope == _find_role(operation)


def _list_object_types() -> list[GraphQLObjectType]:
    return [item for name, item in CORE.type_map.items() if isinstance(item, GraphQLObjectType) and name[0] != "_"]


def test_each_field_that_is_asked_of_a_service_declares_who_may_ask_it() -> None:
    roots = [root for root in (CORE.query_type, CORE.mutation_type, CORE.subscription_type) if root]
    for root in roots:
        for name, field in root.fields.items():
            policy = get_policy(field)
            assert policy is not None, f"{root.name}.{name} declares no policy"
            assert policy.scope in SCOPES, f"{root.name}.{name} declares no scope, so it is private"
            assert policy.calls == 1
    for item in _list_object_types():
        for name, field in item.fields.items():
            if item not in roots and not item.name.endswith("Edge") and item.name != "PageInfo":
                assert get_policy(field) is not None, f"{item.name}.{name} declares no policy"


def test_each_list_of_objects_is_bounded() -> None:
    for item in _list_object_types():
        for name, field in item.fields.items():
            kind = field.type.of_type if is_non_null_type(field.type) else field.type
            named = get_named_type(field.type)
            if isinstance(named, GraphQLObjectType) and (is_list_type(kind) or named.name.endswith("Connection")):
                assert "first" in field.args or item.name.endswith("Connection"), f"{item.name}.{name} has no `first`"


def _to_camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
