"""A consumer as a stranger would write it: from the published AsyncAPI page and schemas alone, with Kafka's own console
consumer. Nothing of Caravan is imported.

    python tests/contract/foreign_reader.py order-created --count 100 -- kafka-console-consumer.sh --bootstrap-server
    localhost:9092

reads the topic from its first event and checks each: the envelope and the payload by the topic's messages in the
AsyncAPI document, and the payload by the schema
of its own version. It prints what it found as JSON, and ends with 1 when an event is not as published or fewer came
than `--count`.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema

DOCS = Path(__file__).resolve().parents[2] / "docs"


def load_message_schemas(page: dict[str, Any], topic: str) -> dict[str, Any]:
    """The JSON Schema of each message of a topic, by message name. KeyError when the page knows no such topic."""
    channel = next(
        (
            channel
            for channel in page["channels"].values()
            if channel["bindings"].get("kafka", {}).get("topic") == topic
        ),
        None,
    )
    if channel is None:
        raise KeyError(f"the AsyncAPI page has no Kafka topic {topic}")
    messages = {name: resolve_reference(page, message["$ref"]) for name, message in channel["messages"].items()}
    # References inside of a payload point into the page, so the page's components come along.
    return {name: {**message["payload"], "components": page["components"]} for name, message in messages.items()}


def resolve_reference(page: dict[str, Any], reference: str) -> Any:
    node: Any = page
    for step in reference.removeprefix("#/").split("/"):
        node = node[step]
    return node


def read_key(line: bytes) -> str:
    try:
        return str(json.loads(line)["subject"])
    except (ValueError, KeyError, TypeError):
        return ""


def find_faults(line: bytes, messages: dict[str, Any], schemas: Path) -> Iterator[str]:
    """What of an event is not as published."""
    try:
        event = json.loads(line)
        name, version, key = event["type"], event["dataversion"], event["subject"]
    except (ValueError, KeyError, TypeError) as error:
        yield f"no envelope: {error!r} in {line[:80]!r}"
        return
    if name not in messages:
        yield f"{key}: {name} is not among the topic's messages {sorted(messages)}"
        return
    schema_file = schemas / f"{name}.v{version}.json"
    if not schema_file.exists():
        yield f"{key}: no schema is published for {name} version {version}"
        return
    for what, schema, value in (
        (name, messages[name], event),
        (schema_file.name, json.loads(schema_file.read_text()), event["data"]),
    ):
        checker = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
        for fault in checker.iter_errors(value):
            yield f"{key}: {what}: {'.'.join(map(str, fault.absolute_path))}: {fault.message[:200]}"


def read_topic(command: list[str], topic: str, count: int, seconds: float) -> Iterator[bytes]:
    """The values of a topic, as Kafka's console consumer prints them, one a line."""
    options = ["--topic", topic, "--from-beginning", "--timeout-ms", str(int(seconds * 1000))]
    options += ["--max-messages", str(count)] if count else []
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as consumer:
        assert consumer.stdout is not None
        yield from (line.rstrip(b"\n") for line in consumer.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("topic")
    parser.add_argument("--page", type=Path, default=DOCS / "asyncapi.json", help="the AsyncAPI document")
    parser.add_argument("--schemas", type=Path, default=DOCS / "schemas", help="folder of <type>.v<N>.json")
    parser.add_argument("--count", type=int, default=0, help="events to wait for; 0: all that are there")
    parser.add_argument("--seconds", type=float, default=20, help="longest wait for the next event")
    parser.add_argument("consumer", nargs="+", help="Kafka's console consumer and where the broker is")
    arguments = parser.parse_args()
    messages = load_message_schemas(json.loads(arguments.page.read_text()), arguments.topic)
    lines = list(read_topic(arguments.consumer, arguments.topic, arguments.count, arguments.seconds))
    faults = [fault for line in lines for fault in find_faults(line, messages, arguments.schemas)]
    keys = sorted({read_key(line) for line in lines})
    print(
        json.dumps(
            {"topic": arguments.topic, "read": len(lines), "wrong": len(faults), "faults": faults[:20], "keys": keys}
        )
    )
    return 1 if faults or len(lines) < arguments.count else 0


if __name__ == "__main__":
    sys.exit(main())
