"""What breaks a client of the REST API, between two OpenAPI documents."""

import re
from collections.abc import Iterator

from services.gateway.reference.openapi import Document, list_operations
from tools.compatibility.breaks import Break, make_break
from tools.compatibility.json_schema import SchemaComparison, Side, resolve_reference

RULES = {
    "operation-removed": "a request that clients make is gone",
    "operation-id-changed": "the method of generated clients has another name",
    "parameter-removed": "a parameter that clients send is gone",
    "parameter-required": "a parameter must be sent that clients don't send",
    "body-required": "a body must be sent that could be left out",
    "media-type-removed": "a content type is no longer taken or answered",
    "answer-removed": "a success is answered with another status",
    "error-removed": "an error that clients handle has another status",
    "header-removed": "a header that clients read is gone",
    "header-optional": "a header that was always there may be missing",
    "role-raised": "callers who were let in are kept out",
}
ROLES = ("customer", "staff", "admin")
"""Each includes those before it."""


def find_breaks(before: Document, after: Document) -> list[Break]:
    comparison = SchemaComparison(before, after)
    new = {_build_key(path, method): operation for path, method, operation in list_operations(after)}
    found: list[Break] = []
    for path, method, operation in list_operations(before):
        subject = f"{method.upper()} {path}"
        if (now := new.get(_build_key(path, method))) is None:
            found.append(make_break(RULES, "operation-removed", subject))
            continue
        if operation["operationId"] != now["operationId"]:
            found.append(
                make_break(
                    RULES, "operation-id-changed", subject, f"was {operation['operationId']}, is {now['operationId']}"
                )
            )
        found += _compare_parameters(subject, operation, now, comparison)
        found += _compare_bodies(subject, operation.get("requestBody", {}), now.get("requestBody", {}), comparison)
        found += _compare_answers(subject, operation["responses"], now["responses"], comparison)
        found += _compare_roles(subject, operation, now)
    return sorted(set(found))


def _build_key(path: str, method: str) -> tuple[str, str]:
    """A path is the same whatever its parameters are called."""
    return re.sub(r"\{[^}]*\}", "{}", path), method


def _compare_parameters(
    subject: str, before: Document, after: Document, comparison: SchemaComparison
) -> Iterator[Break]:
    old, new = (
        {(item["in"], item["name"]): item for item in operation.get("parameters", ())} for operation in (before, after)
    )
    for place, name in old.keys() - new.keys():
        yield make_break(RULES, "parameter-removed", f"{subject} {place} {name}")
    for place, name in new:
        if new[place, name].get("required") and not old.get((place, name), {}).get("required"):
            yield make_break(RULES, "parameter-required", f"{subject} {place} {name}")
    for place, name in old.keys() & new.keys():
        yield from comparison.find_breaks(
            f"{subject} {name}", old[place, name].get("schema", {}), new[place, name].get("schema", {}), Side.WRITES
        )


def _compare_bodies(subject: str, before: Document, after: Document, comparison: SchemaComparison) -> Iterator[Break]:
    if after.get("required") and not before.get("required"):
        yield make_break(RULES, "body-required", subject)
    yield from _compare_contents(f"{subject} body", before, after, comparison, Side.WRITES)


def _compare_answers(subject: str, before: Document, after: Document, comparison: SchemaComparison) -> Iterator[Break]:
    for status in before:
        where = f"{subject} {status}"
        if status not in after:
            yield make_break(RULES, "answer-removed" if status < "4" else "error-removed", where)
            continue
        old = resolve_reference(before[status], comparison.before)
        new = resolve_reference(after[status], comparison.after)
        yield from _compare_contents(where, old, new, comparison, Side.READS)
        headers = new.get("headers", {})
        for name, header in old.get("headers", {}).items():
            if name not in headers:
                yield make_break(RULES, "header-removed", f"{where} {name}")
            elif header.get("required") and not headers[name].get("required"):
                yield make_break(RULES, "header-optional", f"{where} {name}")


def _compare_contents(
    where: str, before: Document, after: Document, comparison: SchemaComparison, side: Side
) -> Iterator[Break]:
    old, new = before.get("content", {}), after.get("content", {})
    for media_type in old:
        if media_type not in new:
            yield make_break(RULES, "media-type-removed", f"{where} {media_type}")
        else:
            yield from comparison.find_breaks(
                where, old[media_type].get("schema", {}), new[media_type].get("schema", {}), side
            )


def _compare_roles(subject: str, before: Document, after: Document) -> Iterator[Break]:
    was, now = _find_rank(before), _find_rank(after)
    if now > was:
        names = ("everybody", *ROLES)
        yield make_break(RULES, "role-raised", subject, f"was for {names[was]}, is for {names[now]}")


def _find_rank(operation: Document) -> int:
    """How much a caller must be: 0 for everybody, else the place of the least role, counted from 1."""
    alternatives: list[dict[str, list[str]]] = operation.get("security", [])
    roles = [role for item in alternatives for names in item.values() for role in names or ROLES[:1]]
    if not roles or {} in alternatives:
        return 0
    return min(ROLES.index(role) + 1 if role in ROLES else len(ROLES) for role in roles)
