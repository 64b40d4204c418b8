"""Campaigns are sent at the set rate, whoever sends them; nothing else is held back by it."""

import asyncio
import time
from dataclasses import dataclass, field

import pytest

from services.notifications.messages import CRITICAL_NOTIFICATIONS, SendNotification
from services.notifications.providers.protocol import SendResult
from services.notifications.rendering import RenderedMessage
from services.notifications.store import sending_rate
from tests.services.notifications.campaigns import count_readers, create_campaign, create_customers, wait_for_end
from tests.services.notifications.conftest import Carrier, ask, back_in_stock
from tests.services.notifications.test_jobs import sent
from tests.support.shop import Shop, wait_until


@dataclass
class TimedCarrier(Carrier):
    times: list[float] = field(default_factory=list)

    async def send(self, messages: list[RenderedMessage]) -> list[SendResult]:
        self.times += [time.monotonic() for message in messages if message.kind == "campaign"]
        return await super().send(messages)


@pytest.fixture
def timed_carrier(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> TimedCarrier:
    carrier = TimedCarrier()
    monkeypatch.setitem(shop.get_context("notifications").resources.providers, "email", carrier)
    return carrier


def set_rate(shop: Shop, monkeypatch: pytest.MonkeyPatch, per_second: float) -> None:
    context = shop.get_context("notifications")
    settings = context.settings.model_copy(update={"campaign_mails_per_second": per_second})
    monkeypatch.setattr(context, "settings", settings)


async def test_a_campaign_goes_out_at_its_rate_and_what_is_not_of_campaigns_is_not_held_back(
    shop: Shop, timed_carrier: TimedCarrier, nobody: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_second, users = 200, 1000
    set_rate(shop, monkeypatch, per_second)
    await create_customers(shop, users)
    made = await create_campaign(shop)

    async def is_under_way() -> bool:
        return len(timed_carrier.times) > per_second

    await wait_until(is_under_way)
    alarm = SendNotification(about="a", kind="password_changed", user_id=None, email="ada@example.com")
    alerts = [back_in_stock() for _ in range(300)]
    asked = time.monotonic()
    await ask(shop, *alerts)
    await ask(shop, alarm, queue=CRITICAL_NOTIFICATIONS)
    await wait_until(lambda: sent(shop, alarm.about))
    assert time.monotonic() - asked < 2
    await wait_until(lambda: sent(shop, alerts[-1].about))
    await wait_for_end(shop, made, seconds=30)
    assert count_readers(timed_carrier).total() == len(count_readers(timed_carrier)) == users
    times = timed_carrier.times
    later = [moment for moment in times if moment > times[0] + sending_rate.KEPT_SECONDS]
    measured = (len(later) - 1) / (later[-1] - later[0])
    assert measured == pytest.approx(per_second, rel=0.05)


async def test_replicas_share_one_rate_and_a_rest_is_no_credit(shop: Shop) -> None:
    database, per_second = shop.get_database("notifications"), 500.0
    await database.fetch(
        "INSERT INTO sending_rate VALUES ('bulk', now() - interval '1 day')"
        " ON CONFLICT (priority) DO UPDATE SET spent_until = excluded.spent_until"
    )  # it rested for a day
    end = time.monotonic() + 3

    async def be_a_replica() -> int:
        taken = 0
        while time.monotonic() < end:
            permits = await sending_rate.take_permits(database, "bulk", per_second, 20)
            if permits > 10:
                await sending_rate.return_permits(database, "bulk", per_second, permits - 10)
            taken += min(permits, 10)
            await asyncio.sleep(0.01)
        return taken

    total = sum(await asyncio.gather(*(be_a_replica() for _ in range(4))))
    assert total == pytest.approx((3 + sending_rate.KEPT_SECONDS) * per_second, rel=0.05)


@pytest.mark.parametrize("value", ["0", "-1", "10001", "fast"])
def test_a_rate_that_is_none_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    from services.notifications.settings import Settings

    monkeypatch.setenv("NOTIFICATIONS_CAMPAIGN_MAILS_PER_SECOND", value)
    with pytest.raises(ValueError, match="campaign_mails_per_second"):
        Settings()
