"""What breaks a reader of our events or a sender of our commands, between two AsyncAPI documents.

What may change inside of one version of a message is a stricter matter of its own (`tools/message_schemas.py`): there
old messages are kept, too. Here is what a client sees of the newest version.
"""

from collections.abc import Iterator

from tools.compatibility.breaks import Break, make_break
from tools.compatibility.json_schema import Schema, SchemaComparison, Side

RULES = {
    "channel-removed": "a channel is gone",
    "address-changed": "a channel has another name at the broker",
    "action-changed": "who was sent messages must send them, or the other way round",
    "message-removed": "a message that readers wait for, or senders send, is not of the channel any more",
    "partitions-changed": "keys move to other partitions, and their order is lost meanwhile",
    "retention-shortened": "what readers could read again is gone earlier",
    "binding-changed": "the broker's object has another kind or name",
}


def find_breaks(before: Schema, after: Schema) -> list[Break]:
    found: list[Break] = []
    comparison = SchemaComparison(before, after)
    for key, channel in before["channels"].items():
        now = after["channels"].get(key)
        if now is None:
            found.append(make_break(RULES, "channel-removed", key))
            continue
        if channel["address"] != now["address"]:
            found.append(make_break(RULES, "address-changed", key))
        found += _compare_bindings(key, channel.get("bindings", {}), now.get("bindings", {}))
        side = Side.WRITES if _find_action(before, key) == "receive" else Side.READS
        if _find_action(before, key) != _find_action(after, key):
            found.append(make_break(RULES, "action-changed", key))
        for name in channel["messages"]:
            if name not in now["messages"]:
                found.append(make_break(RULES, "message-removed", f"{key} {name}"))
            else:
                payload = {"$ref": f"#/components/schemas/{name}"}
                found += comparison.find_breaks(name, payload, payload, side)
    envelope = {"$ref": "#/components/schemas/Envelope"}
    for side in Side:
        found += comparison.find_breaks("Envelope", envelope, envelope, side)
    return sorted(set(found))


def _find_action(document: Schema, channel: str) -> str:
    """What the owner does with the messages of a channel."""
    reference = f"#/channels/{channel}"
    return next(
        (str(each["action"]) for each in document["operations"].values() if each["channel"]["$ref"] == reference), ""
    )


def _compare_bindings(key: str, before: Schema, after: Schema) -> Iterator[Break]:
    old, new = before.get("kafka"), after.get("kafka")
    if old and new:
        if old["partitions"] != new["partitions"]:
            yield make_break(RULES, "partitions-changed", key, f"were {old['partitions']}, are {new['partitions']}")
        kept, keeps = (each["topicConfiguration"]["retention.ms"] for each in (old, new))
        if keeps < kept:
            yield make_break(RULES, "retention-shortened", key, f"was {kept} ms, is {keeps} ms")
    if before.get("amqp") != after.get("amqp") or bool(old) != bool(new):
        yield make_break(RULES, "binding-changed", key)
