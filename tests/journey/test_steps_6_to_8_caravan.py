"""Steps 6 to 8 of the journey are Caravan itself, a process per part: events instead of calls, a log that newcomers
read from its beginning, a history.
"""

import asyncio
import email
import email.policy
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.forks import Process
from tests.support.program import ROOT, Program, build_environment, launch_caravan
from tests.support.shop import wait_until

pytestmark = pytest.mark.slow

ACCEPTING = ("identity", "catalog", "orders", "processing", "shipping", "gateway")
"""The process that the others join; it holds the embedded backends."""
CONFIRMED = "notifications order-processed done"


@dataclass
class Parts:
    """A running shop of which parts can be started and stopped."""

    program: Program
    others: dict[str, tuple[Process, str]] = field(default_factory=dict)

    async def ensure(self, *names: str) -> None:
        async def start(name: str) -> None:
            self.others[name] = await launch_caravan(["run", name], {}, self.program.data, name)
            self.program.processes.append(self.others[name][0])

        await asyncio.gather(*(start(name) for name in names if name not in self.others))

    async def stop_processes(self, *names: str) -> None:
        for name in names:
            if name in self.others:
                process, _ = self.others.pop(name)
                process.terminate()
                await process.wait()

    async def metric(self, name: str, *labels: str) -> Counter[str]:
        """The samples of all processes, by these labels."""
        found: Counter[str] = Counter()
        for url in (self.program.url, *(url for _, url in self.others.values())):
            for line in (await self.program.client.get(f"{url}/metrics")).text.splitlines():
                if line.startswith(name + "{"):
                    values = dict(re.findall(r'(\w+)="([^"]*)"', line))
                    found[" ".join(values[label] for label in labels)] += int(float(line.rpartition(" ")[2]))
        return found

    async def calls(self) -> Counter[str]:
        return await self.metric("caravan_call_duration_seconds_count", "service", "target", "operation")

    async def handled(self) -> Counter[str]:
        return await self.metric("caravan_messages_handled_total", "service", "channel", "result")

    def mails(self, order_id: str) -> list[str]:
        """The subjects of the mails about an order."""
        found = [
            email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            for path in (self.program.data / "mail").glob("*.eml")
        ]
        return [message["subject"] for message in found if order_id in message.as_string()]

    async def confirmed(self, order_id: str) -> None:
        async def arrived() -> bool:
            return any("confirmed" in subject for subject in self.mails(order_id))

        await wait_until(arrived, seconds=20, every=0.05)

    async def status(self, who: dict[str, str], order_id: str, *expected: str) -> None:
        async def reached() -> bool:
            status = (await self.program.get_order(who, order_id))["status"]
            assert status in expected, status
            return True

        await wait_until(reached, seconds=20, every=0.1)

    async def get(self, path: str, who: dict[str, str], **parameters: Any) -> Any:
        answer = await self.program.client.get(path, params=parameters, headers=who)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Parts]:
    folder = tmp_path_factory.mktemp("caravan")
    process, url = await launch_caravan(["run", *ACCEPTING], {}, folder, "accepting")
    program = Program(url, folder, [process])
    try:
        yield Parts(program)
    finally:
        await program.stop()


async def test_step_6_each_part_reacts_to_events_whenever_it_comes(shop: Parts) -> None:
    await shop.ensure("inventory")
    who, sku = await shop.program.register_customer(), await shop.program.create_product(stock=10)
    await shop.stop_processes("inventory", "payments", "notifications")
    accepted = await shop.program.place_order(who, sku)
    assert accepted.status_code == 202, accepted.text
    order_id = accepted.json()["id"]
    assert (await shop.program.get_order(who, order_id))["status"] == "created", "nobody is there who could do more"
    await shop.ensure("inventory")
    await shop.status(who, order_id, "reserved")
    await shop.ensure("payments")
    await shop.status(who, order_id, "paid", "shipped", "delivered")
    assert shop.mails(order_id) == []
    await shop.ensure("notifications")
    await shop.confirmed(order_id)
    handled = await shop.handled()
    for reaction in (
        "inventory inventory.reserve-stock done",
        "payments payments.capture done",
        "notifications order-processed done",
    ):
        assert handled[reaction] >= 1, handled


async def test_step_6_after_the_order_is_accepted_nobody_calls_anybody(shop: Parts) -> None:
    await shop.ensure("inventory", "payments", "notifications")
    who, sku = await shop.program.register_customer(), await shop.program.create_product(stock=10)
    before, confirmed = await shop.calls(), (await shop.handled())[CONFIRMED]
    accepted = await shop.program.place_order(who, sku)
    assert accepted.status_code == 202, accepted.text

    async def asked() -> Counter[str]:  # what is measured is written anew now and then, not for every look
        calls = await shop.calls()
        made = {call for call in calls - before if call.startswith("orders ")} - {"orders identity keys"}
        assert made == {"orders identity standing", "orders catalog offers", "orders inventory availability"}
        return calls

    then = await wait_until(asked)
    await shop.confirmed(accepted.json()["id"])  # a file on the disk: looking at it is no call

    async def shown() -> bool:
        return (await shop.handled())[CONFIRMED] > confirmed

    await wait_until(shown)
    assert await shop.calls() - then == Counter()
    await shop.status(who, accepted.json()["id"], "paid", "shipped", "delivered")


async def test_step_7_analytics_comes_later_and_knows_everything_from_the_first_event_on(shop: Parts) -> None:
    await shop.ensure("inventory", "payments", "notifications")
    await shop.stop_processes("analytics")
    who, sku = await shop.program.register_customer(), await shop.program.create_product(stock=10, price=700)
    placed = [(await shop.program.place_order(who, sku, quantity)).json()["id"] for quantity in (1, 2, 3)]
    declined = (await shop.program.place_order(who, sku, token="tok_declined")).json()["id"]
    for order_id in placed:
        await shop.program.wait_for_status(who, order_id, "delivered")
    await shop.program.wait_for_status(who, declined, "payment_failed")
    staff = await shop.program.authorize_operator()
    assert (await shop.program.client.get("/v1/reports/sales", headers=staff)).status_code in (404, 503), (
        "nobody reports yet"
    )
    producers = {process.pid for process in shop.program.processes if process.returncode is None}
    await shop.ensure("analytics")

    async def report() -> dict[str, Any]:
        rows = (await shop.get("/v1/reports/sales", staff, by="product"))["rows"]
        found: dict[str, Any] = next((row for row in rows if row["key"] == sku), {})
        return found

    async def complete() -> bool:
        row = await report()
        assert (row.get("orders"), row.get("paid"), row.get("units"), row.get("captured")) == (4, 3, 6, 4200), row
        return True

    await wait_until(complete, seconds=20, every=0.2)
    assert producers < {process.pid for process in shop.program.processes if process.returncode is None}, (
        "no producer was started anew"
    )
    await every_order_is_counted(shop, staff)


async def every_order_is_counted(shop: Parts, staff: dict[str, str]) -> None:
    """Of all orders that the shop has ever had, also of those before this test."""
    orders = (await shop.get("/v1/orders", staff, limit=100))["items"]

    async def equal() -> bool:
        (totals,) = (await shop.get("/v1/reports/sales", staff))["totals"]
        paid = [order["total"]["amount"] for order in orders if order["status"] in ("paid", "shipped", "delivered")]
        assert (totals["orders"], totals["paid"], totals["captured"]) == (len(orders), len(paid), sum(paid))
        return True

    await wait_until(equal, seconds=20, every=0.2)


async def test_step_8_an_order_has_a_history_and_can_be_seen_as_it_was(shop: Parts) -> None:
    await shop.ensure("inventory", "payments")
    who, sku = await shop.program.register_customer(), await shop.program.create_product(stock=10)
    order_id = (await shop.program.place_order(who, sku)).json()["id"]
    now = await shop.program.wait_for_status(who, order_id, "delivered")
    history = (await shop.get(f"/v1/orders/{order_id}/history", who))["items"]
    assert [entry["version"] for entry in history] == list(range(1, len(history) + 1))
    assert (history[0]["type"], history[-1]["type"]) == ("OrderCreated", "OrderDelivered")
    assert now["version"] == len(history)
    for entry in history:
        then = await shop.get(f"/v1/orders/{order_id}", who, version=entry["version"])
        assert (then["version"], then["status"]) == (entry["version"], entry["status"])
        moment = datetime.fromisoformat(entry["time"])
        after = [other for other in history if datetime.fromisoformat(other["time"]) <= moment]
        assert (await shop.get(f"/v1/orders/{order_id}", who, at=moment.isoformat()))["version"] == len(after)
    before = datetime.fromisoformat(history[0]["time"]) - timedelta(seconds=1)
    answer = await shop.program.client.get(f"/v1/orders/{order_id}", params={"at": before.isoformat()}, headers=who)
    assert answer.status_code == 404, "it wasn't there yet"


async def test_step_8_the_read_model_is_built_anew_and_is_the_same(shop: Parts) -> None:
    await shop.ensure("inventory", "payments")
    who, sku = await shop.program.register_customer(), await shop.program.create_product(stock=10)
    order_id = (await shop.program.place_order(who, sku)).json()["id"]
    found = await shop.program.wait_for_status(who, order_id, "delivered")
    out = await run_command(shop, "projections", "rebuild", "order_summary")
    assert "equal to the live one" in out
    assert await shop.program.get_order(who, order_id) == found


async def run_command(shop: Parts, *arguments: str) -> str:
    """What `caravan` prints; it ends well."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli",
        *arguments,
        cwd=ROOT,
        env=build_environment(shop.program.data),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_step_8_timeline_graph_and_replay_tell_of_the_same_order(shop: Parts) -> None:
    await shop.ensure("inventory", "payments", "notifications")
    who, sku = await shop.program.register_customer(), await shop.program.create_product(stock=10)
    order_id = (await shop.program.place_order(who, sku)).json()["id"]
    found = await shop.program.wait_for_status(who, order_id, "delivered")
    await shop.confirmed(order_id)
    history = (await shop.get(f"/v1/orders/{order_id}/history", who))["items"]

    timeline = await shop.get(f"/v1/orders/{order_id}/timeline", who)
    items = {item["id"]: item for item in timeline["items"]}
    assert len(items) == len(timeline["items"]), "every entry once"
    assert [item["kind"] for item in items.values() if item["source"] == "events"] == [each["type"] for each in history]
    assert len({item["source"] for item in items.values()}) >= 7
    positions = {entry: position for position, entry in enumerate(items)}
    for entry, item in items.items():
        assert item["cause"] is None or positions[item["cause"]] < positions[entry], "causes come first"

    query = "query Show($id: UUID!) { order(orderId: $id) { status version } payment(orderId: $id) { status } }"
    body = {"query": query, "variables": {"id": order_id}}
    answer = await shop.program.client.post("/graphql", json=body, headers=who)
    expected = {"order": {"status": found["status"], "version": found["version"]}, "payment": {"status": "completed"}}
    assert answer.json() == {"data": expected}, answer.text

    out = await run_command(shop, "orders", "replay", order_id, "--url", shop.program.url)
    assert f"{len(history)} events; the read side is equal to their fold" in out
    assert [line.split()[1] for line in out.splitlines() if re.match(r"\d+  ", line)] == [e["type"] for e in history]
