"""Campaigns come at a fitting time of the recipient's day."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.clock import utc_now
from services.notifications.schemas import TIME_ZONES
from services.notifications.use_cases.campaigns.local_time import (
    compute_local_due,
    compute_local_start,
    parse_quiet_hours,
)
from tests.services.notifications.campaigns import (
    BODY,
    count_readers,
    create_campaign,
    create_customers,
    get_campaign,
    wait_for_end,
)
from tests.services.notifications.conftest import Carrier, MovedClock
from tests.support.shop import Shop, wait_until

ZONES = ("Asia/Tokyo", "Europe/London", "America/Los_Angeles")
TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))


@given(TIMES, st.sampled_from(sorted(TIME_ZONES)), st.sampled_from(sorted(TIME_ZONES)))
def test_everybody_gets_it_at_the_same_time_of_day_and_nobody_before_it_starts(
    at: datetime, campaign_zone: str, zone: str
) -> None:
    start = compute_local_start(at, campaign_zone)
    due = compute_local_due(start, zone)
    assert start <= due <= start + timedelta(hours=27)
    meant = at.astimezone(ZoneInfo(campaign_zone)).replace(tzinfo=None)
    local = due.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    assert timedelta() <= local - meant <= timedelta(hours=24), "later only where clocks skipped it"
    assert (
        local == meant
        or due.astimezone(ZoneInfo(zone)).utcoffset()
        != (due - timedelta(days=2)).astimezone(ZoneInfo(zone)).utcoffset()
    )
    exists = (
        meant.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) == meant
    )
    assert (local == meant) == exists


@given(TIMES, st.sampled_from(ZONES), st.sampled_from(["21:00-08:00", "12:30-14:00", "00:00-06:00"]))
def test_quiet_hours_end_where_the_recipient_lives(at: datetime, zone: str, text: str) -> None:
    quiet = parse_quiet_hours(text)
    end = quiet.find_end(at, zone)
    clock = at.astimezone(ZoneInfo(zone)).time()
    if text == "12:30-14:00":
        assert (end is None) == (not quiet.begin <= clock < quiet.end)
    if end is not None:
        assert at < end <= at + timedelta(hours=13)
        assert end.astimezone(ZoneInfo(zone)).time() == quiet.end
        assert quiet.find_end(end, zone) is None


async def live_in(shop: Shop, users: list[UUID], zones: tuple[str, ...]) -> None:
    for user, zone in zip(users, zones, strict=True):
        answer = await shop.client.patch(
            "/v1/users/me/preferences", json={"time_zone": zone}, headers=shop.issue_headers(user_id=user)
        )
        assert answer.json()["time_zone"] == zone, answer.text


async def list_due(shop: Shop, users: list[UUID]) -> list[datetime]:
    rows = await shop.get_database("notifications").fetch(
        "SELECT user_id, due_at FROM notification WHERE user_id = ANY($1) AND kind = 'campaign'", users
    )
    due = {row["user_id"]: row["due_at"] for row in rows}
    return [due[user] for user in users]


async def test_a_campaign_in_local_time_comes_to_tokyo_before_london_and_a_stop_keeps_the_times(
    shop: Shop, carrier: Carrier, nobody: None, clock: MovedClock
) -> None:
    users = await create_customers(shop, 4)
    await live_in(shop, users[:3], ZONES)  # the fourth has named no zone: the campaign's counts
    at = (utc_now() + timedelta(days=3)).replace(hour=9, minute=0, second=0, microsecond=0)
    made = await create_campaign(shop, send_at=at.isoformat(), time_zone="UTC", local_time=True)
    start = datetime.fromisoformat(made["next_run_at"])
    assert start == at - timedelta(hours=14)
    before = clock.ahead
    try:
        clock.ahead = start - utc_now() + timedelta(seconds=5)
        await run_now(shop, made)
        nine = [at.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) for zone in (*ZONES, "UTC")]
        assert await list_due(shop, users) == nine
        assert not count_readers(carrier)
        staff = shop.issue_headers("staff")
        assert (await shop.client.post(f"/v1/campaigns/{made['id']}/stop", headers=staff)).status_code == 200
        assert (await shop.client.post(f"/v1/campaigns/{made['id']}/resume", headers=staff)).status_code == 200
        assert await list_due(shop, users) == nine, "what was stopped is not sent at once"
        for moment, readers in zip(sorted(set(nine)), (users[:1], [*users[:2], users[3]], users), strict=False):
            clock.ahead = moment - utc_now() + timedelta(seconds=1)
            shop.get_context("notifications").wake("bulk")
            await wait_until(lambda readers=readers: has_readers(carrier, readers))  # type: ignore[misc]
    finally:
        clock.ahead = before


async def has_readers(carrier: Carrier, users: list[UUID]) -> bool:
    assert set(count_readers(carrier)) == set(map(str, users))
    return True


async def run_now(shop: Shop, campaign: dict[str, Any]) -> None:
    from caravan.jobs import Job
    from services.notifications.use_cases.campaigns import runs, schedule

    async def report(done: int, total: int | None = None) -> None: ...

    job = Job("any", schedule.CAMPAIGN_JOB, {"campaign_id": campaign["id"]}, 1, None, report, lambda: False)
    await runs.run_campaign(shop.get_context("notifications"), job)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"local_time": True}, "local_time"),
        ({"local_time": True, "send_at": timedelta(hours=13)}, "send_at"),
        ({"local_time": True, "send_at": timedelta(hours=-1)}, "send_at"),
    ],
)
async def test_a_local_time_that_has_passed_somewhere_is_refused(
    shop: Shop, nobody: None, change: dict[str, Any], field: str
) -> None:
    body = BODY | {
        name: (utc_now() + value).isoformat() if isinstance(value, timedelta) else value
        for name, value in change.items()
    }
    answer = await shop.client.post("/v1/campaigns", json=body, headers=shop.issue_headers("staff"))
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (422, [field])


async def test_nobody_is_disturbed_in_the_quiet_hours_of_where_they_live(
    shop: Shop, carrier: Carrier, nobody: None, clock: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = shop.get_context("notifications")
    monkeypatch.setattr(context, "settings", context.settings.model_copy(update={"quiet_hours": "21:00-08:00"}))
    users = await create_customers(shop, 2)
    await live_in(shop, users, ("Asia/Tokyo", "Europe/London"))
    before = clock.ahead
    try:
        noon = (utc_now() + timedelta(days=40)).replace(hour=12, minute=30, second=0)  # in Tokyo it is 21:30
        clock.ahead = noon - utc_now()
        made = await create_campaign(shop)
        await wait_until(lambda: has_readers(carrier, users[1:]))
        assert (await list_due(shop, users))[0] == noon.replace(hour=23, minute=0, second=0, microsecond=0)
        assert (await get_campaign(shop, made))["status"] == "running"
        clock.ahead += timedelta(hours=10, minutes=31)  # 08:01 in Tokyo, 23:01 in London
        context.wake("bulk")
        await wait_until(lambda: has_readers(carrier, users))
        await wait_for_end(shop, made)
    finally:
        clock.ahead = before


async def test_a_backlog_that_drags_on_into_the_quiet_hours_waits_for_the_morning(
    shop: Shop, carrier: Carrier, nobody: None, clock: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = shop.get_context("notifications")
    (user,) = await create_customers(shop, 1)
    before = clock.ahead
    try:
        evening = (utc_now() + timedelta(days=50)).replace(hour=20, minute=59, second=58, microsecond=0)
        clock.ahead = evening - utc_now()
        context.resources.get_backoff("email").paused_until = float("inf")
        await run_now(shop, await create_campaign(shop))
        await wait_until(lambda: list_due(shop, [user]))
        monkeypatch.setattr(context, "settings", context.settings.model_copy(update={"quiet_hours": "21:00-08:00"}))
        clock.ahead += timedelta(minutes=1)
        context.resources.backoffs.clear()
        context.wake("bulk")
        morning = evening.replace(hour=8, minute=0, second=0) + timedelta(days=1)

        async def is_postponed() -> bool:
            return await list_due(shop, [user]) == [morning]

        await wait_until(is_postponed)
        assert not count_readers(carrier)
        found = await shop.get_database("notifications").fetchval(
            "SELECT attempts FROM notification WHERE user_id = $1", user
        )
        assert found == 0, "it costs no attempt"
    finally:
        clock.ahead = before
