"""Records real messages for the corpus: `python -m tests.contract.record` after a message is new or its version was raised.

It runs the whole shop through `tests.story` and keeps what travelled: for each message version without a recording a file of envelopes, one per shape, and the
event streams of orders whose stored versions are new. What is recorded already is never written again: it is what yesterday's code really sent.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from caravan import embedded, telemetry
from caravan.bus import Bus
from caravan.messages import Message, Outgoing
from caravan.runtime import Backends
from docs.evolution import schema, sent
from tests.shop import until
from tests.story import Story, whole_shop

CORPUS = Path(__file__).parent / "corpus"
STREAMS = CORPUS / "streams"
SHAPES = 6
"""Most envelopes that are kept of one message version."""
SECRET = "a secret of the recorder, nowhere else used"
STATE = "status, version, cancelling, reason, invoice_number, tracking_number, refunded, currency"


class Listening:
    """A bus that notes what is published; all else is the bus's own."""

    def __init__(self, bus: Bus, heard: list[bytes]) -> None:
        self._bus = bus
        self._heard = heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        self._heard += [message.body for message in messages]
        await self._bus.publish(messages)


def recording(kind: type[Message]) -> Path:
    return CORPUS / f"{kind.type}.v{kind.version}.jsonl"


def shape(value: Any, choices: Any = None) -> Any:
    """What tells two messages apart as forms: which fields there are, which are empty, and the values of those with a fixed choice."""
    choices = choices or {}
    match value:
        case dict():
            fields = choices.get("properties", {})
            return tuple((name, shape(inner, fields.get(name))) for name, inner in sorted(value.items()))
        case list():
            return (list, shape(value[0], choices.get("items")) if value else None)
        case str() if "enum" in choices:
            return value
        case _:
            return type(value)


def record_messages(heard: Iterable[bytes]) -> list[str]:
    """Write a file for each version that has none; the types of which nothing was heard."""
    by_type: defaultdict[str, dict[Any, bytes]] = defaultdict(dict)
    schemas = {kind.type: {"properties": {"data": schema(kind)}} for kind in sent()}
    for body in heard:
        envelope = orjson.loads(body)
        by_type[envelope["type"]].setdefault(shape(envelope, schemas.get(envelope["type"])), body)
    missing = []
    for kind in sent():
        if recording(kind).exists():
            continue
        bodies = list(by_type[kind.type].values())[:SHAPES]
        if bodies:
            recording(kind).write_bytes(b"\n".join(bodies) + b"\n")
            print(f"recorded {len(bodies)} of {kind.type} version {kind.version}")
        else:
            missing.append(kind.type)
    return missing


async def record_streams(story: Story) -> None:
    """Keep each order's stored events beside the state that the read side has, when it ended in a way, or through event versions, that no kept one has."""
    STREAMS.mkdir(exist_ok=True)
    known = {_versions(orjson.loads(path.read_bytes())) for path in STREAMS.glob("*.json")}
    databases = story.shop.context("orders").databases
    for order_id in story.orders:
        rows = await databases["orders"].fetch(
            "SELECT version, type, data_version, data, time FROM event WHERE stream = $1 ORDER BY version", UUID(order_id)
        )
        state = await databases["orders_read"].fetchrow(f"SELECT {STATE} FROM order_summary WHERE id = $1", UUID(order_id))
        assert state is not None
        events = [{**row, "data": orjson.loads(row["data"])} for row in rows]
        stream = orjson.loads(orjson.dumps({"stream": order_id, "events": events, "state": dict(state)}))
        if _versions(stream) not in known:
            known.add(_versions(stream))
            number = len(list(STREAMS.glob(f"{state['status']}-*.json"))) + 1
            path = STREAMS / f"{state['status']}-{number}.json"
            path.write_bytes(orjson.dumps(stream, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            print(f"recorded the stream of an order that ended as {state['status']}: {path.name}")


def _versions(stream: dict[str, Any]) -> Any:
    return stream["state"]["status"], frozenset((event["type"], event["data_version"]) for event in stream["events"])


async def record() -> list[str]:
    """Tell the story, write what is new; the types that it did not hear of."""
    folder = Path(tempfile.mkdtemp(prefix="caravan-record-"))
    telemetry.configure_logs("error", "text")
    heard: list[bytes] = []
    expected = {kind.type for kind in sent() if not recording(kind).exists()}

    async def everything() -> bool:
        left = expected - {orjson.loads(body)["type"] for body in heard}
        assert not left, left
        return True

    try:
        print("starting a shop of its own")
        async with embedded.start(folder, secret=SECRET, announce=lambda _: None) as servers:
            backends = Backends(servers.database_url, servers.redis_url, SECRET)
            async with whole_shop(backends, folder / "shop", wrap=lambda bus: Listening(bus, heard)) as story:
                print("telling the story")
                await story.tell()
                await story.rest()
                try:
                    await until(everything)
                except AssertionError:
                    pass  # said below, by type
                await record_streams(story)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, True)
    return record_messages(heard)


def main() -> None:
    argparse.ArgumentParser(prog="python -m tests.contract.record", description=__doc__).parse_args()
    CORPUS.mkdir(exist_ok=True)
    missing = asyncio.run(record())
    if missing:
        sys.exit(f"the story in tests/story.py sends no {', '.join(missing)}: add what makes the shop send it, then record again")


if __name__ == "__main__":
    main()
