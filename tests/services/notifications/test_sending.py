"""Due messages reach their provider: in time, again after trouble, and always under the same key."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from caravan.client import Operation, authorization
from caravan.clock import new_id
from caravan.database import Database
from caravan.dead_letters.schemas import (
    DeadLetterPage,
    DeadLetterView,
    DiscardRequest,
    ListRequest,
    Selection,
    build_discard_operation,
    build_list_operation,
    build_redrive_operation,
)
from services.notifications.messages import CRITICAL_NOTIFICATIONS, SendNotification
from services.notifications.model import RETRY_SECONDS
from services.notifications.providers.protocol import SENT, SendResult
from services.notifications.rendering import RenderedMessage
from services.notifications.store import notifications
from services.notifications.use_cases import ProviderBackoff, send
from tests.services.notifications.conftest import Carrier, MovedClock, ask, back_in_stock, row
from tests.support.shop import Shop, wait_until


async def reached(shop: Shop, about: str, **expected: object) -> Any:
    async def check() -> Any:
        found = await row(shop, about)
        return found if found and all(found[name] == value for name, value in expected.items()) else None

    return await wait_until(check)


async def test_a_critical_message_overtakes_two_thousand_standard_ones_within_two_seconds(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Carrier):
        async def send(self, messages: list[RenderedMessage]) -> list[SendResult]:
            await asyncio.sleep(len(messages) * 0.005)
            return await super().send(messages)

    slow = Slow()
    monkeypatch.setitem(shop.get_context("notifications").resources.providers, "email", slow)
    await ask(shop, *(back_in_stock() for _ in range(2000)))
    await wait_until(lambda: pending(shop, 1600))
    alarm = SendNotification(
        about=f"password:{new_id()}", kind="password_changed", user_id=None, email="ada@example.com"
    )
    published = time.monotonic()
    await ask(shop, alarm, queue=CRITICAL_NOTIFICATIONS)
    await reached(shop, alarm.about, state="sent")
    assert time.monotonic() - published < 2
    assert await pending(shop, 1000)
    await shop.get_database("notifications").fetch(
        "UPDATE notification SET state = 'suppressed' WHERE state = 'pending' AND attempts = 0"
    )

    async def idle() -> bool:
        return not await pending(shop, 1)

    await wait_until(idle)


async def pending(shop: Shop, at_least: int) -> bool:
    counts = await notifications.count_waiting(shop.get_database("notifications"))
    return counts.get("standard", 0) >= at_least


async def test_a_process_that_dies_between_sending_and_recording_sends_again_under_the_same_key(
    shop: Shop, carrier: Carrier, clock: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, finish, deaths = back_in_stock(), notifications.save_results, list[bool]()

    async def dies_once(database: Database, finished: list[notifications.AttemptResult]) -> None:
        if carrier.messages and not deaths:
            deaths.append(True)
            raise RuntimeError("killed")
        await finish(database, finished)

    monkeypatch.setattr(notifications, "save_results", dies_once)
    await ask(shop, command)
    await wait_until(lambda: _sent(carrier, 1))
    await reached(shop, command.about, state="pending", attempts=1)
    clock.ahead += send.LEASE
    shop.get_context("notifications").wake("standard")
    await reached(shop, command.about, state="sent", attempts=2)
    first, second = carrier.messages
    assert first.key == second.key
    assert first.created_at == second.created_at


async def _sent(carrier: Carrier, at_least: int) -> bool:
    return len(carrier.messages) >= at_least


async def test_a_message_that_keeps_failing_is_tried_ever_more_rarely_and_then_failed_for_staff_to_see(
    shop: Shop, carrier: Carrier, clock: MovedClock
) -> None:
    carrier.verdict = SendResult("again", "451 mailbox busy")
    command = back_in_stock(user_id=new_id())
    with clock.stopped():
        await ask(shop, command)
        for attempt, delay in enumerate(RETRY_SECONDS, 1):
            await reached(
                shop,
                command.about,
                attempts=attempt,
                reason="451 mailbox busy",
                due_at=clock() + timedelta(seconds=delay),
            )
            clock.ahead += timedelta(seconds=delay)
            shop.get_context("notifications").wake("standard")
        await reached(shop, command.about, state="failed")
    listed = await shop.client.get("/v1/notifications?state=failed&limit=100", headers=shop.issue_headers("staff"))
    assert [item["reason"] for item in listed.json()["items"] if item["about"] == command.about] == ["451 mailbox busy"]


async def test_a_refused_message_is_failed_at_once(shop: Shop, carrier: Carrier) -> None:
    carrier.verdict = SendResult("refused", "550 no such user")
    command = back_in_stock()
    await ask(shop, command)
    assert (await reached(shop, command.about, state="failed"))["attempts"] == 1


async def call_as_admin(shop: Shop, operation: Operation[Any, Any], request: Any) -> Any:
    token = authorization.set(shop.issue_headers("admin")["authorization"])
    try:
        return await shop.get_context("notifications").call(operation, request)
    finally:
        authorization.reset(token)


async def failures_about(shop: Shop, *abouts: str) -> list[DeadLetterView]:
    found: DeadLetterPage = await call_as_admin(shop, build_list_operation("notifications"), ListRequest(limit=100))
    return [failure for failure in found.items if failure.payload["data"]["about"] in abouts]


async def test_a_refused_message_is_among_the_failures_and_can_be_sent_again(shop: Shop, carrier: Carrier) -> None:
    carrier.verdict = SendResult("refused", "550 no such user")
    link = SendNotification(
        about=f"reset:{new_id()}",
        kind="password_reset",
        user_id=None,
        email="ada@example.com",
        values={"link": "https://shop.example/very-secret"},
    )
    await ask(shop, link, queue=CRITICAL_NOTIFICATIONS)
    await reached(shop, link.about, state="failed")
    (failure,) = await failures_about(shop, link.about)
    assert (failure.origin, failure.reason, failure.type, failure.redrivable) == (
        "effect",
        "550 no such user",
        "password_reset",
        True,
    )
    assert failure.payload["data"]["recipient"] == "ada@example.com"
    assert "very-secret" not in failure.model_dump_json()

    carrier.verdict, carrier.messages = SENT, []
    assert (await call_as_admin(shop, build_redrive_operation("notifications"), Selection(ids=[failure.id]))).done == 1
    await reached(shop, link.about, state="sent", attempts=1)
    assert [message.dedup_key for message in carrier.messages] == [link.about]
    assert "very-secret" in carrier.messages[0].text
    assert await failures_about(shop, link.about) == []
    assert (await call_as_admin(shop, build_redrive_operation("notifications"), Selection(ids=[failure.id]))).done == 0


async def test_who_opted_out_meanwhile_gets_nothing_when_it_is_sent_again(shop: Shop, carrier: Carrier) -> None:
    carrier.verdict = SendResult("refused", "550 mailbox full")
    user = new_id()
    alert = back_in_stock(user)
    await ask(shop, alert)
    await reached(shop, alert.about, state="failed")
    await shop.client.patch(
        "/v1/users/me/preferences", json={"opt_out": ["alerts"]}, headers=shop.issue_headers(user_id=user)
    )
    (failure,) = await failures_about(shop, alert.about)
    carrier.messages = []
    await call_as_admin(shop, build_redrive_operation("notifications"), Selection(ids=[failure.id]))
    assert (await reached(shop, alert.about, state="suppressed"))["values"] is None
    assert carrier.messages == []


async def test_a_failure_that_is_discarded_stays_in_the_history_only(shop: Shop, carrier: Carrier) -> None:
    carrier.verdict = SendResult("refused", "550 gone")
    command = back_in_stock()
    await ask(shop, command)
    await reached(shop, command.about, state="failed")
    (failure,) = await failures_about(shop, command.about)
    assert (
        await call_as_admin(
            shop, build_discard_operation("notifications"), DiscardRequest(ids=[failure.id], reason="a test account")
        )
    ).done == 1
    assert await failures_about(shop, command.about) == []
    kept = await row(shop, command.about)
    assert (kept["state"], kept["values"], kept["reason"]) == ("failed", None, "550 gone")


async def test_a_provider_that_is_down_costs_no_attempt_and_holds_up_no_other_channel(
    shop: Shop, carrier: Carrier
) -> None:
    carrier.verdict = SendResult("down", "connection refused")
    user, command = new_id(), back_in_stock()
    await shop.client.patch(
        "/v1/users/me/preferences",
        json={"channel": "sms", "phone": "+442079460000"},
        headers=shop.issue_headers(user_id=user),
    )
    by_sms = back_in_stock(user_id=user)
    await ask(shop, command)
    await reached(shop, command.about, reason="connection refused", attempts=0)
    await ask(shop, by_sms)
    await reached(shop, by_sms.about, state="sent", channel="sms", recipient="+442079460000")
    carrier.verdict = SendResult("sent")
    await reached(shop, command.about, state="sent", attempts=1)
    assert by_sms.about not in {message.dedup_key for message in carrier.messages}


async def test_a_provider_with_a_bug_fails_its_own_batch_only(
    shop: Shop, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: object) -> list[SendResult]:
        raise ZeroDivisionError

    monkeypatch.setattr(carrier, "send", broken)
    command = back_in_stock()
    await ask(shop, command)
    await reached(shop, command.about, state="pending", attempts=1, reason="ZeroDivisionError: ")


async def test_a_stopping_process_finishes_and_records_the_batch_in_hand() -> None:
    began, go_on, done = asyncio.Event(), asyncio.Event(), []

    async def batch() -> int:
        began.set()
        await go_on.wait()
        done.append(True)
        return 1

    task = asyncio.create_task(send._run_to_completion(batch()))
    await began.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]


async def test_finished_messages_go_after_their_time_and_pending_ones_stay(
    shop: Shop, carrier: Carrier, clock: MovedClock
) -> None:
    carrier.verdict = SendResult("refused", "no")
    finished, waits = back_in_stock(), back_in_stock()
    await ask(shop, finished)
    await reached(shop, finished.about, state="failed")
    carrier.verdict = SendResult("down", "away")
    await ask(shop, waits)
    await reached(shop, waits.about, state="pending")
    before = clock.ahead
    clock.ahead += timedelta(days=401)
    await shop.get_context("notifications").jobs.enqueue("notifications.history-prune")

    async def gone() -> bool:
        return await row(shop, finished.about) is None

    try:
        await wait_until(gone)
        assert (await row(shop, waits.about))["state"] == "pending"
    finally:
        clock.ahead = before


def test_a_provider_is_left_alone_for_a_while_that_doubles() -> None:
    rest = ProviderBackoff()
    waits = []
    for _ in range(8):
        rest.record_failure()
        waits.append(round(rest.paused_until - time.monotonic(), 1))
    assert waits == [0.5, 1, 2, 4, 8, 15, 15, 15]
    rest.record_success()
    rest.record_failure()
    assert rest.paused_until - time.monotonic() <= 0.5
