"""Campaigns with what is recommended to each recipient at the moment of sending."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from caravan.clock import new_id, utc_now
from caravan.errors import ServiceUnavailable
from caravan.runtime import Backends
from services.notifications.store.recipients import Recipient, upsert_recipients
from tests.services.notifications.campaigns import create_campaign, create_customers, get_campaign, wait_for_end
from tests.services.notifications.conftest import Carrier
from tests.services.recommendations.conftest import bought, on_sale, publish_messages, stock
from tests.support.shop import Shop, run_services, wait_until


@pytest.fixture(scope="module")
async def both(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    data: Path = tmp_path_factory.mktemp("data")
    async with run_services(backends, "notifications", "recommendations", data=data) as shop:
        yield shop


@pytest.fixture
def carrier(both: Shop, monkeypatch: pytest.MonkeyPatch) -> Carrier:
    carrier = Carrier()
    monkeypatch.setitem(both.get_context("notifications").resources.providers, "email", carrier)
    return carrier


def texts(carrier: Carrier) -> dict[UUID, str]:
    return {UUID(message.dedup_key.rpartition(":")[2]): message.text for message in carrier.messages}


async def test_each_mail_holds_its_readers_own_items_as_they_are_when_it_is_sent(both: Shop, carrier: Carrier) -> None:
    await both.get_database("notifications").fetch("DELETE FROM recipient")
    tea, coffee = await create_customers(both, 2)
    await publish_messages(
        both,
        on_sale("kettle", "teapot", "grinder", "filter"),
        bought(tea, "kettle"),
        bought(coffee, "grinder"),
        *(bought(new_id(), *pair) for pair in (("kettle", "teapot"), ("grinder", "filter")) for _ in range(4)),
    )
    await wait_for_end(both, await create_campaign(both, with_recommendations=True))
    assert "* Teapot (Goes with what you bought)" in texts(carrier)[tea]
    assert "* Filter (Goes with what you bought)" in texts(carrier)[coffee]
    assert "* Kettle" not in texts(carrier)[tea], "who has just bought it needs none"
    for message in carrier.messages:
        if message.kind == "campaign":
            assert "Goes with what you bought" in message.html
            assert "Only today." in message.text

    carrier.messages.clear()
    await publish_messages(both, [stock("teapot", available=0, version=2)])
    await wait_for_end(both, await create_campaign(both, with_recommendations=True))
    assert "Teapot" not in "".join(texts(carrier).values()), "it is sold out"
    assert "* Filter" in texts(carrier)[coffee]

    carrier.messages.clear()
    await wait_for_end(both, await create_campaign(both))
    assert "Filter" not in "".join(texts(carrier).values()), "a campaign without recommendations has none"


async def test_while_nobody_can_say_what_to_recommend_the_mails_wait_and_all_others_go_out(
    both: Shop, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = both.get_context("notifications")
    database = both.get_database("notifications")
    await database.fetch("DELETE FROM recipient")
    (user,) = await create_customers(both, 1)
    await publish_messages(both, on_sale("kettle"))

    async def refuse(*_: object) -> None:
        raise ServiceUnavailable("recommendations is unavailable")

    with monkeypatch.context() as unavailable:
        unavailable.setattr(context, "call", refuse)
        waits = await create_campaign(both, with_recommendations=True)
        plain = await create_campaign(both)

        async def is_waiting() -> bool:
            return bool(
                await database.fetch(
                    "SELECT FROM notification WHERE user_id = $1 AND state = 'pending' AND attempts = 0"
                    " AND reason = 'recommendations did not answer' AND due_at > now()",
                    user,
                )
            )

        await wait_until(is_waiting)
        await wait_for_end(both, plain)
        assert (await get_campaign(both, waits))["runs"][0]["pending"] == 1
    await database.fetch("UPDATE notification SET due_at = now() WHERE user_id = $1 AND state = 'pending'", user)
    await wait_for_end(both, waits)
    assert "* Kettle (Popular in the shop)" in "".join(message.text for message in carrier.messages)


async def test_who_has_nothing_to_be_recommended_gets_no_mail(both: Shop, carrier: Carrier) -> None:
    database = both.get_database("notifications")
    await database.fetch("DELETE FROM recipient")
    async with both.get_database("recommendations").unit_of_work() as uow:
        await uow.execute("TRUNCATE product, purchase, sold, pair")
    user = Recipient(UUID(int=77), "ada@example.com", "Ada", True, 0, utc_now())
    async with database.unit_of_work() as uow:
        await upsert_recipients(uow, [user])
    (run,) = (await wait_for_end(both, await create_campaign(both, with_recommendations=True)))["runs"]
    assert (run["sent"], run["suppressed"]) == (0, 1)
    assert not carrier.messages
