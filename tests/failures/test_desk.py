"""The failure desk at the gateway's door: what was given up is seen by cause, mended and redriven once, in order, or discarded, and nothing leaks."""

from typing import Any

import orjson
import pytest

from caravan.audit import AUDIT
from caravan.bus import Trouble, Undelivered
from caravan.bus.embedded import EmbeddedBus
from caravan.bus.failures.shapes import ListRequest, Selection, listing, redriving
from caravan.client import authorization
from caravan.clock import new_id
from caravan.errors import Forbidden, Unauthorized
from caravan.messages import Outgoing
from tests.failures.conftest import Desk, Stamped
from tests.shop import until


@pytest.mark.parametrize("queue", [False, True], ids=["topic", "queue"])
async def test_poison_is_listed_by_cause_and_redriven_once_and_in_order_when_it_is_mended(desk: Desk, queue: bool) -> None:
    desk.stamps.broken = "no room for"
    await desk.send("a", 1, 2, 3, queue=queue)
    await desk.send("b", 4, queue=queue)
    items = await desk.failed(4)
    listed = await desk.get()
    assert [(cause["count"], cause["services"], cause["places"]) for cause in listed["causes"]] == [(4, ["stamps"], ["subscription"])]
    assert len({item["reason"] for item in items}) == 4, "four reasons, one cause: they differ in ids and numbers"
    assert [item["attempts"] for item in items] == [1, 1, 1, 1] and all(item["redrivable"] for item in items)
    assert all(item["message_id"] and item["trace_id"] and item["type"] and item["emitted_at"] <= item["failed_at"] for item in items)

    cause = listed["causes"][0]["cause"]
    dry = await desk.post("redrive", cause=cause, dry_run=True)
    assert (dry["chosen"], dry["done"], {item["action"] for item in dry["items"]}) == (4, 0, {"redrive"})
    assert [item["message_id"] for item in dry["items"] if item["key"] == "a"] == [i["message_id"] for i in items if i["key"] == "a"]
    assert len(await desk.failed(4)) == 4, "a dry run changes nothing"

    desk.stamps.broken = None
    done = await desk.post("redrive", cause=cause, failed_before=dry["as_of"])
    assert (done["done"], done["held_back"], done["impossible"], done["more"]) == (4, 0, 0, False)
    await desk.done("a", 1, 2, 3)
    await desk.done("b", 4)
    assert (await desk.get())["causes"] == []


async def test_a_letter_that_had_its_effect_after_all_has_no_second_one(desk: Desk) -> None:
    """The message itself comes again while its letter is redriven: same id, one effect."""
    desk.stamps.broken = "down"
    identifier = new_id()
    await desk.shop.send("stamps", desk.stamps.topic, Stamped(number=1), key="k", identifier=identifier)
    await desk.failed(1)
    desk.stamps.broken = None
    await desk.shop.send("stamps", desk.stamps.topic, Stamped(number=1), key="k", identifier=identifier)
    await desk.done("k", 1)
    assert (await desk.post("redrive", subscription=f"stamps.{desk.stamps.topic.name}"))["done"] == 1
    await desk.send("k", 2)
    await desk.done("k", 1, 2)


async def test_a_letter_waits_for_older_ones_of_its_key(desk: Desk) -> None:
    desk.stamps.broken = "first"
    await desk.send("k", 1)
    await desk.failed(1)
    desk.stamps.broken = "another reason"
    await desk.send("k", 2)
    await desk.send("free", 3)
    items = await desk.failed(3)
    of_second = next(item["cause"] for item in items if item["key"] == "free")
    desk.stamps.broken = None
    done = await desk.post("redrive", cause=of_second)
    assert (done["done"], done["held_back"]) == (1, 1)
    assert [item["why"] for item in done["items"] if item["key"] == "k"] == [
        "an older failure of its key is not chosen: redrive that one first, or discard it"
    ]
    await desk.done("free", 3)
    both = [item["id"] for item in items if item["key"] == "k"]
    assert (await desk.post("redrive", ids=both[::-1]))["done"] == 2
    await desk.done("k", 1, 2)


async def test_discarding_needs_a_reason_and_leaves_a_record(desk: Desk) -> None:
    desk.stamps.broken = "nobody wants"
    await desk.send("k", 1)
    item = (await desk.failed(1))[0]
    refused = await desk.shop.client.post("/v1/failures/discard", json={"ids": [item["id"]]}, headers=desk.shop.bearer("admin"))
    assert refused.status_code == 422 and refused.json()["errors"][0]["field"] == "reason"
    for hidden in ("not \u202ethis", "\x9b31m red", "nul \x00", "\u2800\u2800\u2800"):
        body = {"ids": [item["id"]], "reason": hidden}
        refused = await desk.shop.client.post("/v1/failures/discard", json=body, headers=desk.shop.bearer("admin"))
        assert refused.status_code == 422 and refused.json()["errors"][0]["field"] == "reason", hidden
    admin = new_id()
    answer = await desk.shop.client.post(
        "/v1/failures/discard", json={"ids": [item["id"]], "reason": "a test order"}, headers=desk.shop.bearer("admin", admin)
    )
    assert answer.json()["done"] == 1
    assert (await desk.get())["items"] == []
    gone = await desk.shop.client.get(f"/v1/failures/{item['id']}", headers=desk.shop.bearer("admin"))
    assert gone.status_code == 404
    if isinstance(desk.shop.process.bus, EmbeddedBus):

        async def recorded() -> dict[str, Any] | None:
            records = [envelope["data"] for envelope in await desk.shop.published(AUDIT.name, "failures:stamps")]
            return next((r for r in records if r["action"] == "failures.discard" and r["actor"] == f"admin:{admin}"), None)

        told = await until(recorded)
        assert told is not None
        assert told["details"] == {"count": 1, "ids": [item["id"]], "reason": "a test order"}


async def test_secrets_in_messages_and_reasons_are_not_shown(desk: Desk) -> None:
    desk.stamps.broken = 'refused {"password": "hunter2", "n": 1} Bearer abc.def'
    await desk.send("k", 1)
    await desk.send("k", 2, queue=True)
    items = await desk.failed(2)
    for item in items:
        whole = await desk.get(f"/{item['id']}")
        told = orjson.dumps([item, whole]).decode()
        assert whole["payload"]["data"]["number"] in (1, 2)
        assert "hunter2" not in told and "abc.def" not in told and "tok_secret_1" not in told and "token=abc" not in told
        assert "[masked]" in told
    assert "hunter2" not in orjson.dumps((await desk.get())["causes"]).decode()


async def test_pages_follow_each_other_and_services_that_are_away_are_named(desk: Desk) -> None:
    desk.stamps.broken = "down"
    for number in range(5):
        await desk.send(f"k{number}", number)
    expected = [item["id"] for item in await desk.failed(5)]
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = await desk.get(limit=2, **cursor)
        assert page["partial"] is True and page["failed"] == ["elsewhere"]
        assert page["causes"][0]["count"] == 5
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == expected
    assert len((await desk.get(channel=desk.stamps.queue.name))["items"]) == 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"cause": "a", "ids": ["b"]},
        {"ids": []},
        {"subscription": "x", "unknown": 1},
        {"cause": ""},
    ],
)
async def test_a_selection_names_exactly_one_thing(desk: Desk, body: dict[str, Any]) -> None:
    answer = await desk.shop.client.post("/v1/failures/redrive", json=body, headers=desk.shop.bearer("admin"))
    assert answer.status_code == 422, answer.text


async def test_the_service_itself_answers_admins_only(desk: Desk) -> None:
    calls = desk.shop.context("gateway").calls
    with pytest.raises(Unauthorized):
        await calls(listing("stamps"), ListRequest())
    for role in ("customer", "staff"):
        token = authorization.set(desk.shop.bearer(role)["authorization"])
        try:
            with pytest.raises(Forbidden):
                await calls(redriving("stamps"), Selection(cause="x"))
        finally:
            authorization.reset(token)


async def test_a_row_that_the_bus_refuses_is_set_aside_and_holds_back_only_its_key(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    bus, publish = desk.shop.process.bus, desk.shop.process.bus.publish
    refusing = True

    async def refuse(messages: list[Outgoing]) -> None:
        """As a broker does that takes no message over some size."""
        bad = {m.key for m in messages if refusing and m.key == "large" and b'"number":1,' in m.body}
        troubles = [
            Trouble(m, f"message of {len(m.body)} bytes is too large", for_good=b'"number":1,' in m.body) for m in messages if m.key in bad
        ]
        await publish([m for m in messages if m.key not in bad])
        if troubles:
            raise Undelivered(troubles)

    monkeypatch.setattr(bus, "publish", refuse)
    await desk.send("large", 1, 2)
    await desk.send("small", 1, 2)
    await desk.done("small", 1, 2)
    items = await desk.failed(1)
    assert [(item["place"], item["key"], item["channel"]) for item in items] == [("outbox", "large", desk.stamps.topic.name)]
    assert "too large" in items[0]["reason"] and items[0]["payload"]["data"]["number"] == 1
    await desk.send("large", 3)
    await desk.send("small", 3)
    await desk.done("small", 1, 2, 3)
    assert await desk.effects("large") == []
    refusing = False
    assert (await desk.post("redrive", cause=items[0]["cause"]))["done"] == 1
    await desk.done("large", 1, 2, 3)
    assert (await desk.get())["items"] == []


async def test_a_channel_that_takes_nothing_does_not_stop_the_others(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    bus, publish = desk.shop.process.bus, desk.shop.process.bus.publish
    full = True

    async def refuse(messages: list[Outgoing]) -> None:
        troubles = [Trouble(m, "the queue is full") for m in messages if full and m.kind == "queue"]
        await publish([m for m in messages if not (full and m.kind == "queue")])
        if troubles:
            raise Undelivered(troubles)

    monkeypatch.setattr(bus, "publish", refuse)
    await desk.send("q", 1, 2, queue=True)
    await desk.send("t", 1, 2)
    await desk.done("t", 1, 2)
    full = False
    await desk.done("q", 1, 2)
