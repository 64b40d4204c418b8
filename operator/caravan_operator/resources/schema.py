"""Words to write OpenAPI schemas with: every string, list and map gets a bound, every rule a message."""

from typing import Any

Schema = dict[str, Any]

DURATION = r"^([0-9]{1,7}(h|m|s|ms)){1,4}$"
NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


def rule(expression: str, message: str, path: str | None = None) -> Schema:
    """One CEL rule; `path` is the field that the error names, relative to where the rule stands."""
    made = {"rule": expression, "message": message}
    return made | {"fieldPath": path} if path else made


def string(
    description: str, *, longest: int = 253, shortest: int = 0, pattern: str = "", rules: tuple[Schema, ...] = (), **more: Any
) -> Schema:
    schema: Schema = {"type": "string", "description": description, "maxLength": longest}
    if shortest:
        schema["minLength"] = shortest
    if pattern:
        schema["pattern"] = pattern
    return _ruled(schema | more, rules)


def choice(description: str, *values: str, **more: Any) -> Schema:
    if more.get("nullable"):  # an enum would refuse null
        return {"type": "string", "description": description, "pattern": f"^({'|'.join(values)})$", "maxLength": 64} | more
    return {"type": "string", "description": description, "enum": [*values]} | more


def integer(description: str, least: int, most: int, **more: Any) -> Schema:
    return {"type": "integer", "format": "int64", "description": description, "minimum": least, "maximum": most} | more


def boolean(description: str, **more: Any) -> Schema:
    return {"type": "boolean", "description": description} | more


def duration(description: str, least: str, most: str, *, word: str = "", **more: Any) -> Schema:
    """A duration such as `30s` or `1h30m`; `word` is one more value that is accepted, such as `unlimited`."""
    limits = f"duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"
    pattern = f"^({word}|{DURATION[1:-1]})$" if word else DURATION
    expression = f"self == '{word}' || ({limits})" if word else limits
    either = f" or '{word}'" if word else ""
    return string(
        description, longest=40, shortest=1, pattern=pattern, rules=(rule(expression, f"must be from {least} to {most}{either}"),), **more
    )


def array(description: str, items: Schema, most: int, *, least: int = 0, **more: Any) -> Schema:
    schema: Schema = {"type": "array", "description": description, "items": items, "maxItems": most}
    return schema | ({"minItems": least} if least else {}) | more


def mapping(description: str, values: Schema, most: int, *, rules: tuple[Schema, ...] = ()) -> Schema:
    return _ruled({"type": "object", "description": description, "additionalProperties": values, "maxProperties": most}, rules)


def fields(
    description: str, properties: dict[str, Schema], *, required: tuple[str, ...] = (), rules: tuple[Schema, ...] = (), **more: Any
) -> Schema:
    schema: Schema = {"type": "object", "description": description, "properties": properties}
    if required:
        schema["required"] = list(required)
    return _ruled(schema | more, rules)


def fixed(*names: str) -> tuple[Schema, ...]:
    """Rules on the parent of optional fields that can be neither changed nor added nor removed later."""
    return tuple(
        rule(
            f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})",
            f"{name} is immutable",
            f".{name}",
        )
        for name in names
    )


def _ruled(schema: Schema, rules: tuple[Schema, ...]) -> Schema:
    return schema | ({"x-kubernetes-validations": list(rules)} if rules else {})
