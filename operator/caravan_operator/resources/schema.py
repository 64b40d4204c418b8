"""Builders of OpenAPI schemas: every string, list and map gets a bound, every rule a message."""

from typing import Any

Schema = dict[str, Any]

DURATION_PATTERN = r"^([0-9]{1,7}(h|m|s|ms)){1,4}$"
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


def cel_rule(expression: str, message: str, field_path: str | None = None) -> Schema:
    """One CEL rule; `field_path` is the field that the error names, relative to where the rule stands."""
    schema = {"rule": expression, "message": message}
    return schema | {"fieldPath": field_path} if field_path else schema


def string_schema(
    description: str,
    *,
    max_length: int = 253,
    min_length: int = 0,
    pattern: str = "",
    rules: tuple[Schema, ...] = (),
    **more: Any,
) -> Schema:
    schema: Schema = {"type": "string", "description": description, "maxLength": max_length}
    if min_length:
        schema["minLength"] = min_length
    if pattern:
        schema["pattern"] = pattern
    return _add_rules(schema | more, rules)


def enum_schema(description: str, *values: str, **more: Any) -> Schema:
    if more.get("nullable"):  # an enum would refuse null
        return {
            "type": "string",
            "description": description,
            "pattern": f"^({'|'.join(values)})$",
            "maxLength": 64,
        } | more
    return {"type": "string", "description": description, "enum": [*values]} | more


def integer_schema(description: str, minimum: int, maximum: int, **more: Any) -> Schema:
    return {
        "type": "integer",
        "format": "int64",
        "description": description,
        "minimum": minimum,
        "maximum": maximum,
    } | more


def boolean_schema(description: str, **more: Any) -> Schema:
    return {"type": "boolean", "description": description} | more


def duration_schema(description: str, minimum: str, maximum: str, *, extra_value: str = "", **more: Any) -> Schema:
    """A duration such as `30s` or `1h30m`; `extra_value` is one more that is accepted, such as `unlimited`."""
    limits = f"duration(self) >= duration('{minimum}') && duration(self) <= duration('{maximum}')"
    pattern = f"^({extra_value}|{DURATION_PATTERN[1:-1]})$" if extra_value else DURATION_PATTERN
    expression = f"self == '{extra_value}' || ({limits})" if extra_value else limits
    either = f" or '{extra_value}'" if extra_value else ""
    return string_schema(
        description,
        max_length=40,
        min_length=1,
        pattern=pattern,
        rules=(cel_rule(expression, f"must be from {minimum} to {maximum}{either}"),),
        **more,
    )


def array_schema(description: str, items: Schema, max_items: int, *, min_items: int = 0, **more: Any) -> Schema:
    schema: Schema = {"type": "array", "description": description, "items": items, "maxItems": max_items}
    return schema | ({"minItems": min_items} if min_items else {}) | more


def map_schema(description: str, values: Schema, max_properties: int, *, rules: tuple[Schema, ...] = ()) -> Schema:
    return _add_rules(
        {"type": "object", "description": description, "additionalProperties": values, "maxProperties": max_properties},
        rules,
    )


def object_schema(
    description: str,
    properties: dict[str, Schema],
    *,
    required: tuple[str, ...] = (),
    rules: tuple[Schema, ...] = (),
    **more: Any,
) -> Schema:
    schema: Schema = {"type": "object", "description": description, "properties": properties}
    if required:
        schema["required"] = list(required)
    return _add_rules(schema | more, rules)


def immutable_field_rules(*names: str) -> tuple[Schema, ...]:
    """Rules on the parent of optional fields that can be neither changed nor added nor removed later."""
    return tuple(
        cel_rule(
            f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})",
            f"{name} is immutable",
            f".{name}",
        )
        for name in names
    )


def _add_rules(schema: Schema, rules: tuple[Schema, ...]) -> Schema:
    return schema | ({"x-kubernetes-validations": list(rules)} if rules else {})
