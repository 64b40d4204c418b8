"""The published JSON Schema of every message version, and what may change from one to the next.

`docs/schemas/<type>.v<N>.json` is a promise to readers that don't share this code. A field with a default may be added,
with `version` raised; everything else is a new class sent beside the old one. `generate_docs.py` writes the schemas and
asks this module whether the classes still keep the promise; tests/contract compares the recorded messages with them.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from caravan.messages import Message, list_message_types
from services.gateway.known_services import list_channels
from services.orders.model import EVENT_STORE

FOLDER = Path(__file__).parent.parent / "docs" / "schemas"
ANNOTATIONS = {"title", "description", "examples", "$id", "$schema", "$defs"}
"""What a schema says to people: it may change."""

WITHDRAWN = {"orders.OrderCreated": 1, "payments.CapturePayment": 1}
"""Newest version of a type that must never be sent again: these carried to every reader what payments alone may know
(docs/adr/0019). They were withdrawn before the first release. Their schemas are not published any more; what was
recorded of them is still read."""

Schema = dict[str, Any]


def list_sent_types() -> list[type[Message]]:
    """Every message that travels on a channel, by its wire name."""
    return sorted(
        {message_type for channel in list_channels() for message_type in list_message_types(channel)},
        key=lambda message_type: message_type.type,
    )


def list_stored_types() -> list[type[Message]]:
    """Events that are only kept in a service's own streams: nobody else reads them, and an upcast may turn old ones
    into today's.
    """
    sent = set(list_sent_types())
    return sorted(
        (message_type for message_type in EVENT_STORE.event_types.values() if message_type not in sent),
        key=lambda message_type: message_type.type,
    )


def build_schema(message_type: type[Message]) -> Schema:
    """What any event of this version holds. Fields with a default may be absent: an older version of the same type
    didn't have them.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:caravan:{message_type.type}:v{message_type.version}",
        **message_type.model_json_schema(mode="validation"),
    }


def get_schema_path(message_type: type[Message], folder: Path = FOLDER) -> Path:
    return folder / f"{message_type.type}.v{message_type.version}.json"


def load_published(folder: Path = FOLDER) -> dict[str, dict[int, Schema]]:
    """The schemas in the folder by type and version."""
    found: dict[str, dict[int, Schema]] = {}
    for file in sorted(folder.glob("*.json")):
        named = re.fullmatch(r"(.+)\.v(\d+)\.json", file.name)
        if named is None:
            raise ValueError(f"{file}: a schema's name is <type>.v<N>.json")
        found.setdefault(named[1], {})[int(named[2])] = orjson.loads(file.read_bytes())
    return found


def find_violations(
    sent: Iterable[type[Message]], stored: Iterable[type[Message]] = (), folder: Path = FOLDER
) -> list[str]:
    """What today's classes break of the published schemas, each with what to do about it; empty when they keep the
    promise.
    """
    old = load_published(folder)
    sent, stored = list(sent), list(stored)
    found = []
    for message_type in [*sent, *stored]:
        versions = old.pop(message_type.type, {})
        found += _check_versions(message_type.type, versions, message_type.version)
        if not versions:
            continue  # new: `make docs` publishes it
        newest = max(versions)
        if message_type in sent or message_type.version == newest:
            found += find_changes(
                message_type.type,
                newest,
                versions[newest],
                build_schema(message_type),
                raised=message_type.version > newest,
            )
    return found + [
        f"{name}: no class reads this type any more, but events of it are published. Keep the class while one may "
        "still be met; after that remove"
        f" docs/schemas/{name}.* and tests/contract/corpus/{name}.*, too"
        for name in old
    ]


def _check_versions(name: str, versions: dict[int, Schema], version: int) -> list[str]:
    """The versions of a type are published one after the other, up to today's, but for those that were withdrawn."""
    removed = WITHDRAWN.get(name, 0)
    if versions and version < max(versions):
        return [
            f"{name}: version {max(versions)} is published, the class says {version}. A version never goes back: set "
            f"it to {max(versions)}"
        ]
    if version > max(versions, default=removed) + 1:
        return [
            f"{name}: the class says version {version}, but version {max(versions, default=removed) + 1} was never "
            "published. Raise by one"
        ]
    if version <= removed or min(versions, default=removed + 1) <= removed:
        return [f"{name}: version {removed} was withdrawn: neither send nor publish it"]
    holes = [number for number in range(removed + 1, max(versions, default=removed)) if number not in versions]
    return [f"{name}: version {hole} is missing in docs/schemas; restore the file from the history" for hole in holes]


def find_changes(name: str, version: int, before: Schema, after: Schema, *, raised: bool) -> list[str]:
    """Why `after` can't follow version `version` of a message, in words; empty when it can."""
    found = list(
        _compare_nodes("", _normalize(before, before.get("$defs", {})), _normalize(after, after.get("$defs", {})))
    )
    added = [text for harmless, text in found if harmless]
    broken = [text for harmless, text in found if not harmless]
    broken_rules = [
        f"{name} v{version}: {text}. Readers of what is published, and events of it that are kept, rely on it: undo "
        "the change, or make a new class"
        f" {name.rpartition('.')[2]}V2 and send it beside this one until nobody reads the old one"
        for text in broken
    ]
    if added and not raised:
        broken_rules.append(
            f"{name} v{version}: {', '.join(added)}, but the class is still version {version}. Set `version = "
            f"{version + 1}`, then run"
            " `make docs` and `python -m tests.contract.record`"
        )
    return broken_rules


def _normalize(node: Any, shapes: Schema) -> Any:
    """A schema without annotations, its references replaced by what they name, and what has no order sorted."""
    if isinstance(node, list):
        return [_normalize(item, shapes) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _normalize(
            {**shapes[node["$ref"].rpartition("/")[2]], **{k: v for k, v in node.items() if k != "$ref"}}, shapes
        )
    plain = {
        key: _normalize(value, shapes) for key, value in node.items() if key not in ANNOTATIONS and key != "properties"
    }
    if "properties" in node:
        plain["properties"] = {field: _normalize(value, shapes) for field, value in node["properties"].items()}
    for unordered in ("required", "enum"):
        if unordered in plain:
            plain[unordered] = sorted(plain[unordered], key=str)
    return plain


Change = tuple[bool, str]
"""Whether readers are unharmed, and what it is."""


def _compare_nodes(field_path: str, before: Any, after: Any) -> Iterator[Change]:
    if before == after:
        return
    if "properties" in before and "properties" in after:
        yield from _compare_fields(field_path, before, after)
        yield from _compare_remainder(field_path, before, after, {"properties", "required"})
    elif "items" in before and "items" in after:
        yield from _compare_nodes(f"{field_path}[]", before["items"], after["items"])
        yield from _compare_remainder(field_path, before, after, {"items"})
    elif len(before.get("anyOf", ())) == len(after.get("anyOf", ())) > 0:
        for one, other in zip(before["anyOf"], after["anyOf"], strict=True):
            yield from _compare_nodes(field_path, one, other)
        yield from _compare_remainder(field_path, before, after, {"anyOf"})
    else:
        yield from _compare_remainder(field_path, before, after, set())


def _compare_fields(field_path: str, before: Schema, after: Schema) -> Iterator[Change]:
    old, new = before["properties"], after["properties"]
    prefix = f"{field_path}." if field_path else ""
    removed, added = [name for name in old if name not in new], [name for name in new if name not in old]
    for name in removed:
        renamed = next((other for other in added if new[other] == old[name]), None)
        if renamed is None:
            yield False, f"field `{prefix}{name}` was removed"
        else:
            added.remove(renamed)
            yield False, f"field `{prefix}{name}` was renamed to `{prefix}{renamed}`"
    for name in added:
        if name in after.get("required", ()):
            yield False, f"field `{prefix}{name}` is new and has no default, so that events without it can't be read"
        elif before.get("additionalProperties") is False:
            yield False, f"field `{prefix}{name}` is new, but `{field_path or 'the message'}` was published as closed"
        else:
            yield True, f"field `{prefix}{name}` was added"
    for name in old.keys() & new.keys():
        was_required, is_required = name in before.get("required", ()), name in after.get("required", ())
        if was_required != is_required:
            yield False, f"field `{prefix}{name}` {'is required now' if is_required else 'may be absent now'}"
        yield from _compare_nodes(f"{prefix}{name}", old[name], new[name])


def _compare_remainder(field_path: str, before: Schema, after: Schema, compared: set[str]) -> Iterator[Change]:
    """Everything that a value is allowed to be stays as it was: narrower fails on old events, wider surprises old
    readers.
    """
    old = {key: value for key, value in before.items() if key not in compared}
    new = {key: value for key, value in after.items() if key not in compared}
    if old == new:
        return
    where = f"`{field_path}`" if field_path else "the message"
    was, now = old.get("enum"), new.get("enum")
    if was and now and set(was) != set(now):
        lost, won = sorted(set(was) - set(now), key=str), sorted(set(now) - set(was), key=str)
        yield False, f"{where} no longer allows {lost}" if lost else f"{where} allows {won}, which readers don't know"
    elif old.get("default") != new.get("default") and _drop_key(old, "default") == _drop_key(new, "default"):
        yield (
            False,
            f"the default of {where} was {old.get('default')!r} and is {new.get('default')!r}: events without it "
            "would change their meaning",
        )
    else:
        yield False, f"{where} was {_shorten(old)} and is {_shorten(new)}"


def _drop_key(node: Schema, key: str) -> Schema:
    return {name: value for name, value in node.items() if name != key}


def _shorten(node: Schema) -> str:
    text = orjson.dumps(node).decode()
    return text if len(text) <= 120 else text[:117] + "..."
