"""Every text that a request may hold says what it may be: nobody's terminal, mail or log is steered by one that was
forgotten.
"""

from collections.abc import Iterator
from typing import Any

from tests.api.conftest import World

LOOKED_UP = {"body.cause", "body.ids[]", "body.subscription", "body.token", "body.current_password", "body.from_page"}
"""Compared with what there is, and never kept or shown when there is no such thing."""
PARSED = {"body.cron", "body.time_zone", "body.email", "body.password", "body"}
"""Refused by the parser of their own language when they are anything else; the pages' forms say so to people, as a
page. A body that is a text as a whole is a mail: what is kept of it has the rules of a bounce's fields.
"""
ENOUGH = ("pattern", "enum", "const")
FORMATS = {"uuid", "date-time", "date", "idn-email"}


def texts(schema: dict[str, Any], schemas: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    for part in [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]:
        yield from texts(part, schemas, path)
    if schema.get("type") == "string":
        yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from texts(part, schemas, f"{path}.{name}")
    for name, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(name), dict):
            yield from texts(schema[name], schemas, path + mark)


async def test_every_text_of_a_body_has_a_rule_of_which_signs_it_may_hold(world: World) -> None:
    loose, found = set(), 0
    for path, methods in world.document["paths"].items():
        for method, operation in methods.items():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                for field, schema in texts(content["schema"], world.document["components"]["schemas"], "body"):
                    found += 1
                    if (
                        not any(name in schema for name in ENOUGH)
                        and schema.get("format") not in FORMATS
                        and field not in LOOKED_UP | PARSED
                    ):
                        loose.add(f"{method} {path} {field}")
    assert found > 50
    assert loose == set()


async def test_every_text_of_a_path_has_one_too(world: World) -> None:
    loose, found = set(), 0
    for path, methods in world.document["paths"].items():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", ()):
                for _, schema in texts(parameter["schema"], world.document["components"]["schemas"], "path"):
                    found += parameter["in"] == "path"
                    if parameter["in"] != "path" or parameter["name"] in ("failure_id", "token"):  # looked up only
                        continue
                    if not any(name in schema for name in ENOUGH) and schema.get("format") not in FORMATS:
                        loose.add(f"{method} {path} {parameter['name']}")
    assert found > 20
    assert loose == set()
