"""Campaigns in the console: written, watched, stopped and resumed, over a running notification service."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from caravan.clock import new_id
from caravan.runtime import Backends
from services.gateway.console.session import Session
from services.gateway.console.views.campaigns import compute_progress, describe_segment
from tests.services.gateway.console.console_case import ConsoleCase
from tests.services.notifications.campaigns import create_customers
from tests.support.shop import run_services, wait_until

MARKUP = "<script>alert('tea')</script>"
PATH = "/console/campaigns"


@pytest.fixture(scope="module")
async def mailing(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ConsoleCase]:
    async with run_services(backends, "gateway", "notifications", data=tmp_path_factory.mktemp("data")) as shop:
        yield ConsoleCase(shop)


async def create(console: ConsoleCase, session: Session | None = None, **form: str) -> str:
    """The path of the new campaign's page."""
    sent = {"name": "Spring", "subject": "Tea at half price", "text": "Only today.", "key": str(new_id()), **form}
    answer = await console.post(session or console.create_session("staff"), f"{PATH}/create", sent)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


async def read_page(console: ConsoleCase, path: str) -> str:
    answer = await console.get(console.create_session("staff"), path)
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_a_campaign_is_written_and_its_page_says_how_far_it_is(mailing: ConsoleCase) -> None:
    await create_customers(mailing.shop, 7)
    path = await create(mailing, name=MARKUP, text=f"Only today.\r\n\r\n{MARKUP}")

    async def is_done() -> bool:
        return 'class="state good">done' in await read_page(mailing, path)

    await wait_until(is_done, seconds=20)
    text = await read_page(mailing, path)
    assert MARKUP not in text and "&lt;script&gt;" in text
    assert re.search(r'<progress max="100" value="100"', text)
    listed = await read_page(mailing, PATH)
    assert MARKUP not in listed and '7<span class="soft"> of 7' in listed


async def test_the_same_form_sent_twice_is_one_campaign(mailing: ConsoleCase) -> None:
    session, key = mailing.create_session("staff"), str(new_id())
    first, second = [await create(mailing, session, key=key, send_at="2099-01-01T09:00") for _ in range(2)]
    assert first == second


async def test_a_campaign_is_stopped_and_resumed(mailing: ConsoleCase) -> None:
    path = await create(mailing, send_at="2099-01-01T09:00", not_ordered_within_days="30")
    session = mailing.create_session("staff")
    scheduled = await read_page(mailing, path)
    assert f'action="{path}/stop"' in scheduled and f'action="{path}/resume"' not in scheduled
    assert "ordered nothing in the last 30 days" in scheduled
    await mailing.post(session, f"{path}/stop")
    stopped = await read_page(mailing, path)
    assert 'class="state warn">stopped' in stopped and f'action="{path}/stop"' not in stopped
    await mailing.post(session, f"{path}/resume")
    assert 'class="state active">scheduled' in await read_page(mailing, path)


async def test_what_the_api_refuses_is_said(mailing: ConsoleCase) -> None:
    session = mailing.create_session("staff")
    for field, value in (
        ("send_at", "2001-01-01T09:00"),
        ("send_at", "nonsense"),
        ("not_ordered_within_days", "-1"),
        ("not_ordered_within_days", "many"),
        ("subject", ""),
        ("text", "x" * 20_001),
    ):
        form = {"name": "Spring", "subject": "Tea", "text": "Today", "key": str(new_id()), field: value}
        answer = await mailing.post(session, f"{PATH}/create", form)
        assert answer.status_code in (400, 422), (field, answer.text)
        assert field in answer.text


@pytest.mark.parametrize(
    ("run", "percent"),
    [
        ({"recipients": 0, "sent": 0, "failed": 0, "suppressed": 0}, 100),
        ({"recipients": 3, "sent": 1, "failed": 1, "suppressed": 0}, 66),
        ({"recipients": 1000, "sent": 999, "failed": 0, "suppressed": 0}, 99),
        ({"recipients": 2, "sent": 2, "failed": 1, "suppressed": 0}, 100),
    ],
)
def test_a_run_is_at_100_percent_when_nothing_is_left(run: dict[str, Any], percent: int) -> None:
    assert compute_progress(run) == percent


def test_a_segment_is_said_in_words() -> None:
    assert describe_segment({"registered_after": None, "ordered_within_days": 7}) == ["ordered in the last 7 days"]
    assert describe_segment({}) == []
