"""Dead letters through the gateway: what was given up is seen by cause, mended and redriven once, in order, or
discarded, and nothing leaks.
"""

from typing import Any

import orjson
import pytest

from caravan.audit import AUDIT
from caravan.bus import PublishError, PublishFailure
from caravan.bus.embedded import EmbeddedBus
from caravan.client import authorization
from caravan.clock import new_id
from caravan.dead_letters.schemas import ListRequest, Selection, build_list_operation, build_redrive_operation
from caravan.errors import Forbidden, Unauthorized
from caravan.messages import OutgoingMessage
from tests.support.failing_service import WAIT_SECONDS, DeadLetterAdmin, Stamped
from tests.support.shop import wait_until


@pytest.mark.parametrize("queue", [False, True], ids=["topic", "queue"])
async def test_poison_is_listed_by_cause_and_redriven_once_and_in_order_when_it_is_mended(
    admin: DeadLetterAdmin, queue: bool
) -> None:
    admin.stamps.error_text = "no room for"
    await admin.send_messages("a", 1, 2, 3, queue=queue)
    await admin.send_messages("b", 4, queue=queue)
    items = await admin.wait_for_failures(4)
    listed = await admin.get()
    assert [(cause["count"], cause["services"], cause["origins"]) for cause in listed["causes"]] == [
        (4, ["stamps"], ["subscription"])
    ]
    assert len({item["reason"] for item in items}) == 4, "four reasons, one cause: they differ in ids and numbers"
    assert [item["attempts"] for item in items] == [1, 1, 1, 1]
    assert all(item["redrivable"] for item in items)
    assert all(
        item["message_id"] and item["trace_id"] and item["type"] and item["emitted_at"] <= item["failed_at"]
        for item in items
    )

    cause = listed["causes"][0]["cause"]
    dry = await admin.post("redrive", cause=cause, dry_run=True)
    assert (dry["selected"], dry["done"], {item["action"] for item in dry["items"]}) == (4, 0, {"redrive"})
    assert [item["message_id"] for item in dry["items"] if item["key"] == "a"] == [
        i["message_id"] for i in items if i["key"] == "a"
    ]
    assert len(await admin.wait_for_failures(4)) == 4, "a dry run changes nothing"

    admin.stamps.error_text = None
    done = await admin.post("redrive", cause=cause, failed_before=dry["as_of"])
    assert (done["done"], done["blocked"], done["not_redrivable"], done["more"]) == (4, 0, 0, False)
    await admin.wait_for_effects("a", 1, 2, 3)
    await admin.wait_for_effects("b", 4)
    assert (await admin.get())["causes"] == []


async def test_a_letter_that_had_its_effect_after_all_has_no_second_one(admin: DeadLetterAdmin) -> None:
    """The message itself comes again while its letter is redriven: same id, one effect."""
    admin.stamps.error_text = "down"
    identifier = new_id()
    await admin.shop.send_message("stamps", admin.stamps.topic, Stamped(number=1), key="k", message_id=identifier)
    await admin.wait_for_failures(1)
    admin.stamps.error_text = None
    await admin.shop.send_message("stamps", admin.stamps.topic, Stamped(number=1), key="k", message_id=identifier)
    await admin.wait_for_effects("k", 1)
    assert (await admin.post("redrive", subscription=f"stamps.{admin.stamps.topic.name}"))["done"] == 1
    await admin.send_messages("k", 2)
    await admin.wait_for_effects("k", 1, 2)


async def test_a_letter_waits_for_older_ones_of_its_key(admin: DeadLetterAdmin) -> None:
    admin.stamps.error_text = "first"
    await admin.send_messages("k", 1)
    await admin.wait_for_failures(1)
    admin.stamps.error_text = "another reason"
    await admin.send_messages("k", 2)
    await admin.send_messages("free", 3)
    items = await admin.wait_for_failures(3)
    of_second = next(item["cause"] for item in items if item["key"] == "free")
    admin.stamps.error_text = None
    done = await admin.post("redrive", cause=of_second)
    assert (done["done"], done["blocked"]) == (1, 1)
    assert [item["reason"] for item in done["items"] if item["key"] == "k"] == [
        "an older failure of its key is not selected: redrive that one first, or discard it"
    ]
    await admin.wait_for_effects("free", 3)
    both = [item["id"] for item in items if item["key"] == "k"]
    assert (await admin.post("redrive", ids=both[::-1]))["done"] == 2
    await admin.wait_for_effects("k", 1, 2)


async def test_discarding_needs_a_reason_and_leaves_a_record(admin: DeadLetterAdmin) -> None:
    admin.stamps.error_text = "nobody wants"
    await admin.send_messages("k", 1)
    item = (await admin.wait_for_failures(1))[0]
    refused = await admin.shop.client.post(
        "/v1/failures/discard", json={"ids": [item["id"]]}, headers=admin.shop.issue_headers("admin")
    )
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "reason"
    for hidden in ("not \u202ethis", "\x9b31m red", "nul \x00", "\u2800\u2800\u2800"):
        body = {"ids": [item["id"]], "reason": hidden}
        refused = await admin.shop.client.post(
            "/v1/failures/discard", json=body, headers=admin.shop.issue_headers("admin")
        )
        assert refused.status_code == 422 and refused.json()["errors"][0]["field"] == "reason", hidden
    admin_id = new_id()
    response = await admin.shop.client.post(
        "/v1/failures/discard",
        json={"ids": [item["id"]], "reason": "a test order"},
        headers=admin.shop.issue_headers("admin", admin_id),
    )
    assert response.json()["done"] == 1
    assert (await admin.get())["items"] == []
    missing = await admin.shop.client.get(f"/v1/failures/{item['id']}", headers=admin.shop.issue_headers("admin"))
    assert missing.status_code == 404
    if isinstance(admin.shop.process.bus, EmbeddedBus):

        async def find_record() -> dict[str, Any] | None:
            records = [envelope["data"] for envelope in await admin.shop.read_topic(AUDIT.name, "failures:stamps")]
            return next(
                (r for r in records if r["action"] == "failures.discard" and r["actor"] == f"admin:{admin_id}"), None
            )

        record = await wait_until(find_record, seconds=WAIT_SECONDS)
        assert record is not None
        assert record["details"] == {"count": 1, "ids": [item["id"]], "reason": "a test order"}


async def test_secrets_in_messages_and_reasons_are_not_shown(admin: DeadLetterAdmin) -> None:
    admin.stamps.error_text = 'refused {"password": "hunter2", "n": 1} Bearer abc.def'
    await admin.send_messages("k", 1)
    await admin.send_messages("k", 2, queue=True)
    items = await admin.wait_for_failures(2)
    for item in items:
        detail = await admin.get(f"/{item['id']}")
        text = orjson.dumps([item, detail]).decode()
        assert detail["payload"]["data"]["number"] in (1, 2)
        assert "hunter2" not in text
        assert "abc.def" not in text
        assert "tok_secret_1" not in text
        assert "token=abc" not in text
        assert "[masked]" in text
    assert "hunter2" not in orjson.dumps((await admin.get())["causes"]).decode()


async def test_pages_follow_each_other_and_services_that_are_away_are_named(admin: DeadLetterAdmin) -> None:
    admin.stamps.error_text = "down"
    for number in range(5):
        await admin.send_messages(f"k{number}", number)
    expected = [item["id"] for item in await admin.wait_for_failures(5)]
    ids: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = await admin.get(limit=2, **cursor)
        assert page["partial"] is True
        assert page["failed"] == ["elsewhere"]
        assert page["causes"][0]["count"] == 5
        ids += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert ids == expected
    assert len((await admin.get(channel=admin.stamps.queue.name))["items"]) == 0


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
async def test_a_selection_names_exactly_one_thing(admin: DeadLetterAdmin, body: dict[str, Any]) -> None:
    answer = await admin.shop.client.post("/v1/failures/redrive", json=body, headers=admin.shop.issue_headers("admin"))
    assert answer.status_code == 422, answer.text


async def test_the_service_itself_answers_admins_only(admin: DeadLetterAdmin) -> None:
    calls = admin.shop.get_context("gateway").call
    with pytest.raises(Unauthorized):
        await calls(build_list_operation("stamps"), ListRequest())
    for role in ("customer", "staff"):
        token = authorization.set(admin.shop.issue_headers(role)["authorization"])
        try:
            with pytest.raises(Forbidden):
                await calls(build_redrive_operation("stamps"), Selection(cause="x"))
        finally:
            authorization.reset(token)


async def test_a_row_that_the_bus_refuses_is_set_aside_and_holds_back_only_its_key(
    admin: DeadLetterAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, publish = admin.shop.process.bus, admin.shop.process.bus.publish
    is_refusing = True

    async def refuse_large(messages: list[OutgoingMessage]) -> None:
        """As a broker does that takes no message over some size."""
        bad = {m.key for m in messages if is_refusing and m.key == "large" and b'"number":1,' in m.body}
        failures = [
            PublishFailure(m, f"message of {len(m.body)} bytes is too large", permanent=b'"number":1,' in m.body)
            for m in messages
            if m.key in bad
        ]
        await publish([m for m in messages if m.key not in bad])
        if failures:
            raise PublishError(failures)

    monkeypatch.setattr(bus, "publish", refuse_large)
    await admin.send_messages("large", 1, 2)
    await admin.send_messages("small", 1, 2)
    await admin.wait_for_effects("small", 1, 2)
    items = await admin.wait_for_failures(1)
    assert [(item["origin"], item["key"], item["channel"]) for item in items] == [
        ("outbox", "large", admin.stamps.topic.name)
    ]
    assert "too large" in items[0]["reason"]
    assert items[0]["payload"]["data"]["number"] == 1
    await admin.send_messages("large", 3)
    await admin.send_messages("small", 3)
    await admin.wait_for_effects("small", 1, 2, 3)
    assert await admin.list_effects("large") == []
    is_refusing = False
    assert (await admin.post("redrive", cause=items[0]["cause"]))["done"] == 1
    await admin.wait_for_effects("large", 1, 2, 3)
    assert (await admin.get())["items"] == []


async def test_a_channel_that_takes_nothing_does_not_stop_the_others(
    admin: DeadLetterAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, publish = admin.shop.process.bus, admin.shop.process.bus.publish
    is_full = True

    async def refuse_queue(messages: list[OutgoingMessage]) -> None:
        failures = [PublishFailure(m, "the queue is full") for m in messages if is_full and m.channel_type == "queue"]
        await publish([m for m in messages if not (is_full and m.channel_type == "queue")])
        if failures:
            raise PublishError(failures)

    monkeypatch.setattr(bus, "publish", refuse_queue)
    await admin.send_messages("q", 1, 2, queue=True)
    await admin.send_messages("t", 1, 2)
    await admin.wait_for_effects("t", 1, 2)
    is_full = False
    await admin.wait_for_effects("q", 1, 2)
