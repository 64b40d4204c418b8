"""Records real messages for the corpus: `python -m tests.contract.record` after a message is new or its version was
raised.

It runs the whole shop through `tests.support.scenario` and keeps what travelled: for each message version without a
recording a file of envelopes, one per shape, and the
event streams of orders whose stored versions are new. What is recorded already is never written again: it is what
yesterday's code really sent.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from caravan import embedded, telemetry
from caravan.bus import Bus
from caravan.messages import Message, OutgoingMessage
from caravan.runtime import Backends
from tests.support.scenario import ShopScenario, run_whole_shop
from tests.support.shop import wait_until
from tools.message_schemas import build_schema, list_sent_types

CORPUS = Path(__file__).parent / "corpus"
STREAMS = CORPUS / "streams"
SHAPES = 6
"""Most envelopes that are kept of one message version."""
SECRET = "a secret of the recorder, nowhere else used"
STATE = "status, version, cancelling, reason, invoice_number, tracking_number, refunded, currency"


class RecordingBus:
    """A bus that notes what is published; all else is the bus's own."""

    def __init__(self, bus: Bus, bodies: list[bytes]) -> None:
        self._bus = bus
        self._bodies = bodies

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def publish(self, messages: Sequence[OutgoingMessage]) -> None:
        self._bodies += [message.body for message in messages]
        await self._bus.publish(messages)


def get_recording_path(message_type: type[Message]) -> Path:
    return CORPUS / f"{message_type.type}.v{message_type.version}.jsonl"


def describe_shape(value: Any, choices: Any = None) -> Any:
    """What tells two messages apart as forms: which fields there are, which are empty, and the values of those with a
    fixed choice.
    """
    choices = choices or {}
    match value:
        case dict():
            fields = choices.get("properties", {})
            return tuple((name, describe_shape(inner, fields.get(name))) for name, inner in sorted(value.items()))
        case list():
            return (list, describe_shape(value[0], choices.get("items")) if value else None)
        case str() if "enum" in choices:
            return value
        case _:
            return type(value)


def record_messages(recorded_bodies: Iterable[bytes]) -> list[str]:
    """Write a file for each version that has none; the types of which nothing was heard."""
    by_type: defaultdict[str, dict[Any, bytes]] = defaultdict(dict)
    schemas = {
        message_type.type: {"properties": {"data": build_schema(message_type)}} for message_type in list_sent_types()
    }
    for body in recorded_bodies:
        envelope = orjson.loads(body)
        by_type[envelope["type"]].setdefault(describe_shape(envelope, schemas.get(envelope["type"])), body)
    missing = []
    for kind in list_sent_types():
        if get_recording_path(kind).exists():
            continue
        bodies = list(by_type[kind.type].values())[:SHAPES]
        if bodies:
            get_recording_path(kind).write_bytes(b"\n".join(bodies) + b"\n")
            print(f"recorded {len(bodies)} of {kind.type} version {kind.version}")
        else:
            missing.append(kind.type)
    return missing


async def record_streams(scenario: ShopScenario) -> None:
    """Keep each order's stored events beside the state that the read side has, when it ended in a way, or through event
    versions, that no kept one has.
    """
    STREAMS.mkdir(exist_ok=True)
    recorded_versions = {_collect_versions(orjson.loads(path.read_bytes())) for path in STREAMS.glob("*.json")}
    databases = scenario.shop.get_context("orders").databases
    for order_id in scenario.orders:
        rows = await databases["orders"].fetch(
            "SELECT version, type, data_version, data, time FROM event WHERE stream = $1 ORDER BY version",
            UUID(order_id),
        )
        state = await databases["orders_read"].fetchrow(
            f"SELECT {STATE} FROM order_summary WHERE id = $1", UUID(order_id)
        )
        assert state is not None
        events = [{**row, "data": orjson.loads(row["data"])} for row in rows]
        stream = orjson.loads(orjson.dumps({"stream": order_id, "events": events, "state": dict(state)}))
        if _collect_versions(stream) not in recorded_versions:
            recorded_versions.add(_collect_versions(stream))
            number = len(list(STREAMS.glob(f"{state['status']}-*.json"))) + 1
            path = STREAMS / f"{state['status']}-{number}.json"
            path.write_bytes(orjson.dumps(stream, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            print(f"recorded the stream of an order that ended as {state['status']}: {path.name}")


def _collect_versions(stream: dict[str, Any]) -> Any:
    return stream["state"]["status"], frozenset((event["type"], event["data_version"]) for event in stream["events"])


async def record_corpus() -> list[str]:
    """Run the scenario, write what is new; the types that it did not hear of."""
    folder = Path(tempfile.mkdtemp(prefix="caravan-record-"))
    telemetry.configure_logs("error", "text")
    bodies: list[bytes] = []
    expected = {kind.type for kind in list_sent_types() if not get_recording_path(kind).exists()}

    async def has_heard_everything() -> bool:
        missing_types = expected - {orjson.loads(body)["type"] for body in bodies}
        assert not missing_types, missing_types
        return True

    try:
        print("starting a shop of its own")
        async with embedded.start(folder, secret=SECRET, announce=lambda _: None) as servers:
            backends = Backends(servers.database_url, servers.redis_url, SECRET)
            async with run_whole_shop(
                backends, folder / "shop", wrap=lambda bus: RecordingBus(bus, bodies)
            ) as scenario:
                print("running the scenario")
                await scenario.run_scenario()
                await scenario.wait_for_ends()
                with suppress(AssertionError):  # said below, by type
                    await wait_until(has_heard_everything)
                await record_streams(scenario)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, True)
    return record_messages(bodies)


def main() -> None:
    argparse.ArgumentParser(prog="python -m tests.contract.record", description=__doc__).parse_args()
    CORPUS.mkdir(exist_ok=True)
    missing = asyncio.run(record_corpus())
    if missing:
        sys.exit(
            f"the scenario in tests/support/scenario.py sends no {', '.join(missing)}: add what makes the shop send "
            "it, then record again"
        )


if __name__ == "__main__":
    main()
