"""Compares two JSON Schemas from a client's side: as one who writes such values, or as one who reads them.

A writer is broken when something that it may send is no longer taken; a reader when something is missing, or when a
value comes that it was told can't. Readers ignore fields that they don't know. Limits of length and size bind writers
only: a reader is not told how long a text may get, a writer is told how long it must not be.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tools.compatibility.breaks import Break, make_break

Schema = dict[str, Any]

RULES = {
    "field-removed": "a field that clients send or read is gone",
    "field-required": "a field must be sent that could be left out",
    "field-optional": "a field that was always there may be missing",
    "closed": "fields that were ignored are refused",
    "type-narrowed": "a kind of value is no longer taken",
    "type-widened": "a kind of value comes that was ruled out",
    "value-removed": "a value is no longer taken",
    "value-added": "a value comes that was not in the list",
    "bound-narrowed": "a limit is tighter",
    "pattern-changed": "texts must have another form",
    "format-changed": "texts have, or must have, another format",
    "default-changed": "what is left out means something else",
}
LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
NULL = {"type": "null"}


class Side(Enum):
    WRITES = "writes"
    READS = "reads"


@dataclass
class SchemaComparison:
    """`before` and `after` are the documents that references of their schemas lead into."""

    before: Schema
    after: Schema
    _results: dict[tuple[str, str, Side], list[Break]] = field(default_factory=dict)

    def find_breaks(self, where: str, before: Schema, after: Schema, side: Side) -> list[Break]:
        """`where` names the value. Below a schema with a name of its own it is that name, so that what many requests
        share is told once.
        """
        names = before.get("$ref", ""), after.get("$ref", "")
        if not all(names):
            return list(self._compare_branches(where, before, after, side))
        key = (*names, side)
        if key not in self._results:
            self._results[key] = []  # a schema that holds itself is being compared already
            name = names[0].rpartition("/")[2]
            self._results[key] = list(self._compare_branches(name, before, after, side))
        return self._results[key]

    def _compare_branches(self, where: str, before: Schema, after: Schema, side: Side) -> Iterator[Break]:
        """Each kind of value that a writer may send must be taken by one that is taken now, each that comes now must
        have been one that came.
        """
        if side is Side.WRITES and before.get("default") != after.get("default"):
            yield make_break(
                RULES,
                "default-changed",
                where,
                f"its default was {before.get('default')!r}, is {after.get('default')!r}",
            )
        old, new = list_branches(before, self.before), list_branches(after, self.after)
        for branch in old if side is Side.WRITES else new:
            pairs = [(branch, each) for each in new] if side is Side.WRITES else [(each, branch) for each in old]
            found = [breaks for pair in pairs if (breaks := self._compare_kinds(where, *pair, side)) is not None]
            if found:
                yield from min(found, key=len)
                continue
            kind = str(resolve_reference(branch, self.before if side is Side.WRITES else self.after).get("type", "any"))
            if side is Side.WRITES:
                yield make_break(RULES, "type-narrowed", f"{where} {kind}", f"{kind} is not taken")
            else:
                yield make_break(RULES, "type-widened", f"{where} {kind}", f"{kind} may come")

    def _compare_kinds(self, where: str, before: Schema, after: Schema, side: Side) -> list[Break] | None:
        """None when values of one type are none of the other's."""
        old, new = resolve_reference(before, self.before), resolve_reference(after, self.after)
        narrow, wide = (old, new) if side is Side.WRITES else (new, old)
        types = wide.get("type"), narrow.get("type")
        if types[0] not in (None, types[1]) and types != ("number", "integer"):
            return None
        if "$ref" in before and "$ref" in after:
            return self.find_breaks(where, before, after, side)
        return list(self._compare_values(where, old, new, side))

    def _compare_values(self, where: str, before: Schema, after: Schema, side: Side) -> Iterator[Break]:
        yield from _compare_enums(where, before, after, side)
        if before.get("format") != after.get("format") and (after if side is Side.WRITES else before).get("format"):
            yield make_break(
                RULES, "format-changed", where, f"its format was {before.get('format')!r}, is {after.get('format')!r}"
            )
        if side is Side.WRITES:
            yield from _compare_limits(where, before, after)
        yield from self._compare_fields(where, before, after, side)
        for key, sign in (("items", "[]"), ("additionalProperties", "{}")):
            if isinstance(before.get(key), dict) and isinstance(after.get(key), dict):
                yield from self.find_breaks(where + sign, before[key], after[key], side)
        for index, (one, other) in enumerate(
            zip(before.get("prefixItems", ()), after.get("prefixItems", ()), strict=False)
        ):
            yield from self.find_breaks(f"{where}[{index}]", one, other, side)

    def _compare_fields(self, where: str, before: Schema, after: Schema, side: Side) -> Iterator[Break]:
        old, new = before.get("properties", {}), after.get("properties", {})
        was_required, is_required = set(before.get("required", ())), set(after.get("required", ()))
        for name in old.keys() - new.keys():
            yield make_break(
                RULES, "field-removed", f"{where}.{name}", f"clients {side.value[:-1]} this field; it is gone"
            )
        if side is Side.WRITES:
            for name in is_required - was_required:
                yield make_break(RULES, "field-required", f"{where}.{name}", "it must be sent, and clients don't")
            if after.get("additionalProperties") is False and before.get("additionalProperties") is not False:
                yield make_break(RULES, "closed", where, "fields that it does not know are refused now")
        else:
            for name in (was_required - is_required) & new.keys():
                yield make_break(
                    RULES, "field-optional", f"{where}.{name}", "it was always there, and may be missing now"
                )
        for name in old.keys() & new.keys():
            yield from self.find_breaks(f"{where}.{name}", old[name], new[name], side)


def resolve_reference(node: Schema, document: Schema) -> Schema:
    """What a node refers to, with what stands beside the reference; the node itself when it refers to nothing."""
    if "$ref" not in node:
        return node
    target: Any = document
    for key in node["$ref"].removeprefix("#/").split("/"):
        target = target[key]
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def list_branches(schema: Schema, document: Schema) -> list[Schema]:
    """The kinds of value that a schema allows: what `anyOf` and several types list. A kind with a name of its own stays
    a reference, for it may hold itself.
    """
    node = resolve_reference(schema, document)
    rest = {key: value for key, value in node.items() if key not in ("anyOf", "oneOf", "allOf")}
    for key in ("anyOf", "oneOf"):
        if key in node:
            return [branch for each in node[key] for branch in _list_kinds({**rest, **each}, document)]
    for each in node.get("allOf", ()):
        for part in list_branches(each, document)[:1]:
            rest = {
                **rest,
                **part,
                "properties": {**rest.get("properties", {}), **part.get("properties", {})},
                "required": [*rest.get("required", ()), *part.get("required", ())],
            }
    if isinstance(rest.get("type"), list):
        return [{**rest, "type": name} for name in rest["type"]]
    if "const" in rest:
        rest["enum"] = [rest["const"]]
    return [rest]


def _list_kinds(member: Schema, document: Schema) -> list[Schema]:
    branches = list_branches(member, document)
    return [member] if "$ref" in member and len(branches) == 1 else branches


def _compare_enums(where: str, before: Schema, after: Schema, side: Side) -> Iterator[Break]:
    old, new = before.get("enum"), after.get("enum")
    if side is Side.WRITES and new is not None:
        if old is None:
            yield make_break(RULES, "value-removed", where, f"any value was taken, now only {new}")
        for value in old or ():
            if value not in new:
                yield make_break(RULES, "value-removed", f"{where} {value}", f"the value {value!r} is not taken")
    if side is Side.READS and old is not None:
        if new is None:
            yield make_break(RULES, "value-added", where, f"it was one of {old}, now it may be any value")
        for value in new or ():
            if value not in old:
                yield make_break(RULES, "value-added", f"{where} {value}", f"the value {value!r} may come")


def _compare_limits(where: str, before: Schema, after: Schema) -> Iterator[Break]:
    for keys, sign in ((LOWER_BOUNDS, 1), (UPPER_BOUNDS, -1)):
        for key in keys:
            if key in after and (key not in before or (after[key] - before[key]) * sign > 0):
                yield make_break(RULES, "bound-narrowed", f"{where} {key}", f"was {before.get(key)}, is {after[key]}")
    for key in ("pattern", "multipleOf", "uniqueItems"):
        if after.get(key) and after.get(key) != before.get(key):
            rule = "pattern-changed" if key == "pattern" else "bound-narrowed"
            yield make_break(RULES, rule, f"{where} {key}", f"was {before.get(key)!r}, is {after[key]!r}")
