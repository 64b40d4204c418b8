"""What breaks the published schemas of message versions: each file of a version stays as it is, but for its words.

What a class may change against its newest schema is a matter of `tools/message_schemas.py`; here nobody changes both.
"""

from collections.abc import Mapping
from typing import Any

from tools.compatibility.breaks import Break, make_break
from tools.compatibility.json_schema import Schema

RULES = {
    "schema-removed": "the schema of a version is gone while messages of it may still be kept",
    "schema-changed": "a published version of a message may never change",
}
WORDS = {"title", "description", "examples"}


def find_breaks(before: Mapping[str, Schema], after: Mapping[str, Schema]) -> list[Break]:
    """The schemas by their files' names."""
    found = []
    for name, schema in before.items():
        if name not in after:
            found.append(make_break(RULES, "schema-removed", name))
        elif _strip_words(schema) != _strip_words(after[name]):
            found.append(make_break(RULES, "schema-changed", name))
    return found


def _strip_words(node: Any, *, names_fields: bool = False) -> Any:
    """A field may be called `title`: below `properties` a key is no word."""
    if isinstance(node, list):
        return [_strip_words(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _strip_words(value, names_fields=key in ("properties", "$defs"))
        for key, value in node.items()
        if names_fields or key not in WORDS
    }
