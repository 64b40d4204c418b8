"""Customers who write down what they are about to ask before they ask it, and afterwards whether it was done, was
refused, or whether they don't know.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx2
import orjson

from caravan.clock import new_id
from tests.faults.fleet import TOKENS
from tests.support.program import Program
from tests.support.shop import wait_until

Outcome = Literal["ok", "failed", "unknown"]
ASK_SECONDS = 120.0
PAUSE_SECONDS = 0.3
LEAVE_CHANCE, REPEAT_CHANCE, CANCEL_CHANCE = 0.1, 0.15, 0.2
CALL_SECONDS = 12.0
MORE_SECONDS = 4.0
SPARE_STOCK = 10_000


def classify(status: int | None) -> Outcome:
    """What an answer says of whether it was done; None: there was none."""
    if status is not None and 200 <= status < 300:
        return "ok"
    if status is None or status >= 500 or status in (401, 408, 425, 429):
        return "unknown"
    return "failed"


@dataclass
class Intents:
    """The log: a line before each attempt, and one after it."""

    file: Path
    accepted: dict[str, str] = field(default_factory=dict)
    """By key, the order."""
    unknown: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    """Orders whose cancellation was accepted."""
    contradictions: list[str] = field(default_factory=list)
    counts: dict[Outcome, int] = field(default_factory=lambda: {"ok": 0, "failed": 0, "unknown": 0})

    @classmethod
    def load(cls, file: Path) -> "Intents":
        intents = cls(file)
        if file.exists():
            for line in file.read_bytes().splitlines():
                with suppress(orjson.JSONDecodeError):  # the last one, of a proof that was killed
                    intents.apply(orjson.loads(line))
        return intents

    def write(self, **fields: Any) -> None:
        line = {"at": round(time.time(), 3), **fields}
        with self.file.open("ab") as out:
            out.write(orjson.dumps(line) + b"\n")
        self.apply(line)

    def apply(self, line: dict[str, Any]) -> None:
        key, outcome = line["key"], line.get("is")
        if outcome is None:
            if line["do"] == "place" and key not in self.accepted:
                self.unknown.add(key)
            return
        self.counts[outcome] += 1
        if line["do"] == "cancel":
            if outcome == "ok":
                self.cancelled.add(line["order"])
            return
        if outcome == "ok" and self.accepted.setdefault(key, line["order"]) != line["order"]:
            self.contradictions.append(f"key {key} was answered with {self.accepted[key]} and {line['order']}")
        if outcome != "unknown":
            self.unknown.discard(key)


@dataclass
class Customers:
    """They order until `orders` are accepted and nothing strikes any more (`is_closing`); never further than
    `get_limit` says, and `more` than that where a strike waits for orders. `forced_token`: the card that all of them
    use while it is set.
    """

    program: Program
    intents: Intents
    orders: int
    chance: random.Random
    get_limit: Callable[[], int]
    forced_token: str = ""
    more: int = 0
    is_closing: bool = False

    async def keep_ordering(self) -> None:
        """Until cancelled: each customer orders now and then beyond the limit, for a strike that shows nothing without
        orders.
        """
        try:
            while True:
                self.more = max(0, len(self.intents.accepted) - self.get_limit()) + 1
                await asyncio.sleep(MORE_SECONDS)
        finally:
            self.more = 0

    async def come(self, count: int) -> list[asyncio.Task[None]]:
        sku = await self._sure(lambda: self.program.create_product(stock=self.orders * 2 + SPARE_STOCK))
        return [asyncio.create_task(self._order(sku), name=f"customer {number}") for number in range(count)]

    async def _sure(self, action: Callable[[], Any]) -> Any:
        async def attempt() -> Any:
            try:
                return await action()
            except httpx2.HTTPError as error:
                raise AssertionError(repr(error)) from error

        return await wait_until(attempt, seconds=ASK_SECONDS * 2, every=0.5)

    async def _order(self, sku: str) -> None:
        who: dict[str, str] = {}
        while not self.is_closing or len(self.intents.accepted) < self.orders:
            if len(self.intents.accepted) >= self.get_limit() + self.more:
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if not who:
                who = await self._sure(self.program.register_customer)
            token = self.forced_token or self.chance.choice(TOKENS)
            key = str(new_id())
            order_id, status = await self._place(who, sku, token, key)
            while not order_id and classify(status) == "unknown" and self.chance.random() > LEAVE_CHANCE:
                await asyncio.sleep(PAUSE_SECONDS)
                if status == 401:
                    with suppress(AssertionError, httpx2.HTTPError):
                        who = await self.program.register_customer()
                    break
                order_id, status = await self._place(who, sku, token, key)
            if not order_id:
                continue
            if self.chance.random() < REPEAT_CHANCE:
                await self._place(who, sku, token, key)
            if self.chance.random() < CANCEL_CHANCE:
                await self._cancel(who, order_id)

    async def _place(self, who: dict[str, str], sku: str, token: str, key: str) -> tuple[str, int | None]:
        self.intents.write(do="place", key=key, token=token)
        status, body = await self._ask(self.program.place_order(who, sku, token=token, key=key))
        order_id = str(body["id"]) if status == 202 else ""
        self.intents.write(do="place", key=key, order=order_id, status=status, **{"is": classify(status)})
        return order_id, status

    async def _cancel(self, who: dict[str, str], order_id: str) -> None:
        self.intents.write(do="cancel", key=order_id)
        status, _ = await self._ask(self.program.client.post(f"/v1/orders/{order_id}/cancel", headers=who))
        self.intents.write(do="cancel", key=order_id, order=order_id, status=status, **{"is": classify(status)})

    async def _ask(self, request: Any) -> tuple[int | None, Any]:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                answer = await request
            return answer.status_code, answer.json() if answer.content else {}
        except (httpx2.HTTPError, TimeoutError, ValueError):
            return None, {}
