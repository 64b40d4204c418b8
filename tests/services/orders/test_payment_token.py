"""What a customer pays with is told to payments, and to nobody else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caravan.bus import Bus
from caravan.dead_letters.causes import redact_payload
from caravan.messages import OutgoingMessage
from caravan.runtime import Backends
from tests.contract.record import CORPUS
from tests.support.scenario import ShopScenario, run_whole_shop
from tests.support.shop import wait_until

TOKEN = b"tok_"
"""Every token of the scenario begins so, and nothing else does."""


class Noting:
    """A bus that notes on which channels a token travels, and on which anything does."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.all: set[str] = set()
        self.with_token: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def publish(self, messages: Sequence[OutgoingMessage]) -> None:
        self.all |= {message.channel for message in messages}
        self.with_token |= {message.channel for message in messages if TOKEN in message.body}
        await self._bus.publish(messages)


async def test_a_token_travels_to_payments_alone_and_is_kept_by_nobody_once_the_order_has_ended(
    backends: Backends, tmp_path: Path
) -> None:
    buses: list[Noting] = []

    def noting(bus: Bus) -> Any:
        buses.append(Noting(bus))
        return buses[-1]

    async with run_whole_shop(backends, tmp_path / "shop", wrap=noting) as scenario:
        await scenario.run_scenario()
        await scenario.wait_for_ends()
        await wait_until(lambda: _forgotten(scenario))
    travelled = {channel for bus in buses for channel in bus.all}
    assert {
        "order-created",
        "orders",
        "payments.capture",
        "payments.refund",
        "order-processed",
        "order-undone",
    } <= travelled
    assert {channel for bus in buses for channel in bus.with_token} == {"payments.expect"}


async def _forgotten(scenario: ShopScenario) -> bool:
    """No row about an order of the scenario, of whatever table, holds a token."""
    for context in scenario.shop.process.contexts.values():
        for name, database in context.databases.items():
            for (table,) in await database.fetch("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'"):
                held = await database.fetchval(
                    f"SELECT count(*) FROM {table} t, unnest($1::text[]) AS o(wanted) WHERE t::text LIKE '%' || "
                    "wanted || '%' AND t::text LIKE '%tok\\_%'",
                    list(scenario.orders),
                )
                assert not held, f"{held} rows of {name}.{table} hold a token"
    return True


def test_a_failure_is_shown_without_the_token_of_its_letter() -> None:
    [body] = (CORPUS / "payments.ExpectPayment.v1.jsonl").read_bytes().splitlines()
    assert TOKEN in body
    for shown in (
        redact_payload(body, len(body)),
        redact_payload(body[:-1], len(body) - 1),
        redact_payload(body[:-200], len(body)),
    ):
        assert TOKEN.decode() not in str(shown)
