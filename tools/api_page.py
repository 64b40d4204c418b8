"""docs/reference/api.md: REST, GraphQL and messages in one place. The chapters on what all three share are written by
hand in the page itself; the tables behind its mark are made of the OpenAPI document, the graph's tables and the
channels.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from caravan.audit import AUDIT
from caravan.messages import Channel, Exchange, Queue, Topic, list_message_types
from caravan.service import Service
from services.gateway.graphql.mutations import WRITES
from services.gateway.graphql.queries import READS

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "api.md"
MARK = "<!-- The tables from here on are written by `make docs`. -->\n"
METHODS = ("get", "post", "put", "patch", "delete")
SUBSCRIPTIONS = {"/v1/orders/{order_id}/events": "orderChanges", "/v1/stock/{sku}/events": "stockChanges"}


def render_api(openapi: dict[str, Any], services: Sequence[Service]) -> str:
    chapters, _, _ = PAGE.read_text().partition(MARK)
    parts = [chapters, MARK, "\n## Operations\n"]
    for tag, operations in _group_by_tag(openapi):
        parts.append(
            f"\n### {tag.capitalize()}\n\n| operation | what | for | GraphQL | headers |\n|---|---|---|---|---|\n"
        )
        parts += [_render_operation(method, path, operation) for method, path, operation in operations]
    parts.append("\n## Channels\n\n[Messages](messages.md) has the fields of each, who reads them, and how long.\n")
    parts.append("\n| channel | carried by | owner | key | messages |\n|---|---|---|---|---|\n")
    declared = [AUDIT, *(each for service in services for each in service.channels)]
    channels = sorted(declared, key=lambda each: each.name)
    parts += [_render_channel(channel) for channel in channels]
    return "".join(parts)


def _group_by_tag(openapi: dict[str, Any]) -> Iterable[tuple[str, list[tuple[str, str, dict[str, Any]]]]]:
    by_tag: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, item in sorted(openapi["paths"].items()):
        for method in METHODS:
            if method in item:
                by_tag.setdefault(item[method]["tags"][0], []).append((method.upper(), path, item[method]))
    return sorted(by_tag.items())


def _render_operation(method: str, path: str, operation: dict[str, Any]) -> str:
    summary = " ".join(operation.get("description", operation["summary"]).split()).partition(". ")[0].rstrip(".")
    return (
        f"| `{method} {path}` | {summary.replace('|', chr(92) + '|')} | {_name_audience(operation)} "
        f"| {_list_fields(method, path)} | {', '.join(_list_headers(operation))} |\n"
    )


def _name_audience(operation: dict[str, Any]) -> str:
    """The role that a token has to have at least."""
    scopes = [scope for requirement in operation.get("security", []) for scope in requirement.get("bearer", [])]
    if scopes:
        return str(scopes[0])
    return "anybody" if {} in operation.get("security", [{}]) else "a token"


def _list_headers(operation: dict[str, Any]) -> Iterator[str]:
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "header":
            name = "-".join(word.capitalize() for word in parameter["name"].split("-"))
            yield f"`{name}`{' (required)' if parameter['required'] else ''}"


def _list_fields(method: str, path: str) -> str:
    """The fields of the graph that do the same."""
    if method == "GET" and path in SUBSCRIPTIONS:
        return f"`{SUBSCRIPTIONS[path]}`"
    names = [
        *(name for name, write in WRITES.items() if write.request == f"{method} {path}"),
        *(name for name, read in READS.items() if method == "GET" and read.template == path),
    ]
    return ", ".join(f"`{_to_camel_case(name)}`" for name in names)


def _to_camel_case(name: str) -> str:
    first, *words = name.split("_")
    return first + "".join(word.capitalize() for word in words)


def _render_channel(channel: Channel) -> str:
    kind = {Topic: "Kafka topic", Queue: "RabbitMQ queue", Exchange: "RabbitMQ exchange"}[type(channel)]
    types = ", ".join(f"`{each.type}`" for each in list_message_types(channel))
    return f"| `{channel.name}` | {kind} | {channel.owner} | `{channel.key}` | {types} |\n"
