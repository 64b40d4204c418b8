"""The two documents of the messages describe one envelope."""

from typing import Any

from services.gateway.reference.asyncapi import ENVELOPE
from tools.readers_asyncapi import Envelope

OF_EACH_MESSAGE = {"type", "data"}
"""The readers' document has them with each message, where they differ."""
COMPARED = ("const", "format", "minimum")


def test_the_readers_envelope_is_that_of_the_channels() -> None:
    readers = Envelope.model_json_schema()
    properties = {name: value for name, value in ENVELOPE["properties"].items() if name not in OF_EACH_MESSAGE}
    assert set(readers["required"]) == set(ENVELOPE["required"]) - OF_EACH_MESSAGE
    assert {name: describe_type(value) for name, value in readers["properties"].items()} == {
        name: describe_type(value) for name, value in properties.items()
    }


def describe_type(schema: dict[str, Any]) -> dict[str, Any]:
    """An optional field may be null here and absent there, which says the same."""
    (kind,) = (each for each in schema.get("anyOf", [schema]) if each.get("type") != "null")
    return {"type": kind["type"], **{name: kind[name] for name in COMPARED if name in kind}}
