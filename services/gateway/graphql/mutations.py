"""The fields of the mutation type: each one write of a service's public API, with the same body and the same
idempotency key.
"""

from typing import Any
from urllib.parse import urlencode

import orjson
import strawberry
from strawberry.types import Info

from caravan.errors import BadRequest
from services.gateway.graphql.admin_writes import ADMIN_WRITES
from services.gateway.graphql.fields import make_field
from services.gateway.graphql.policy import Policy
from services.gateway.graphql.service_calls import Body, fill_path
from services.gateway.graphql.shapes import dump_input, get_input
from services.gateway.graphql.writes import SHOP_WRITES, Write

WRITES = {**SHOP_WRITES, **ADMIN_WRITES}
_JSON = b"application/json"
_FORM = b"application/x-www-form-urlencoded"


def _make_mutation_field(write: Write) -> Any:
    arguments: dict[str, Any] = dict(write.parameters)
    defaults: dict[str, Any] = {}
    if write.body is not None:
        arguments["input"] = get_input(write.body)
        if write.is_body_optional:
            arguments["input"], defaults["input"] = arguments["input"] | None, None
    if write.key:
        arguments["idempotency_key"] = str if write.key == "required" else str | None
        if write.key == "optional":
            defaults["idempotency_key"] = None
    if write.has_if_match:
        arguments["if_match"], defaults["if_match"] = str | None, None

    async def resolve(info: Info[Any, Any], given: dict[str, Any]) -> Any:
        headers = {"idempotency-key": given.get("idempotency_key"), "if-match": given.get("if_match")}
        value = await info.context.calls.write(
            write.service,
            write.method,
            fill_path(write.template, {name: given[name] for name in write.parameters}),
            {name: value for name, value in headers.items() if value is not None},
            _encode_body(write, given.get("input")),
        )
        if write.result is None:
            return True
        await info.context.attach_joins(info, value)
        return value

    result = bool if write.result is None else write.result
    return make_field(result | None, arguments, defaults, resolve, Policy(write.scope, calls=1), write.description)


def _encode_body(write: Write, given: Any) -> Body:
    if given is None:
        return b"", b""
    body = dump_input(given)
    if write.is_form:
        return urlencode({key: value for key, value in body.items() if value is not None}).encode(), _FORM
    try:
        return orjson.dumps(body), _JSON
    except orjson.JSONEncodeError as error:
        raise BadRequest(f"the input can't be sent as JSON: {error}") from None


def build_mutation_type() -> Any:
    namespace = {name: _make_mutation_field(write) for name, write in WRITES.items()}
    return strawberry.type(
        type("Mutation", (), namespace), description="What can be written: as REST has it, with the same keys."
    )
