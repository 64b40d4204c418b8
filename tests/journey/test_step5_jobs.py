"""Step 5 of the journey: mails, invoices and payments that have to be tried again are jobs, seen from outside, on a
real Redis.
"""

import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from caravan.runtime import Backends
from docs.journey.step5_jobs.jobs import NAME, add_job
from tests.journey.early_shop import CREDENTIAL, EarlyShop, SameApi, early_shop, start_behind_gateway
from tests.support.shop import wait_until

INSIDE = {"x-internal-credential": CREDENTIAL}


@pytest.fixture(scope="module")
async def shop(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EarlyShop]:
    async with early_shop(tmp_path_factory.mktemp("step5"), REDIS_URL=backends.redis_url, BACKOFF_MS="100") as shop:
        await start_behind_gateway(shop, "step5_jobs/orders.py")
        await shop.start("step5_jobs/worker.py")
        yield shop


async def jobs(shop: EarlyShop, state: str) -> dict[str, dict[str, Any]]:
    """By id, as those inside see them."""
    answer = await shop.client.get(f"{shop.urls['inside orders']}/jobs", params={"state": state}, headers=INSIDE)
    assert answer.status_code == 200, answer.text
    return {job["id"]: job for job in answer.json()}


async def reaches(shop: EarlyShop, job_id: str, state: str) -> dict[str, Any]:
    async def there() -> dict[str, Any] | None:
        return (await jobs(shop, state)).get(job_id)

    found = await wait_until(there, seconds=30, every=0.05)
    assert found is not None
    return found


async def becomes(shop: EarlyShop, order_id: str, status: str) -> None:
    async def there() -> bool:
        return (await shop.orders())[order_id] == status

    await wait_until(there, seconds=30)


class TestBackgroundJobs(SameApi):
    async def test_jobs_wait_are_delayed_and_complete_and_a_restarted_worker_loses_and_doubles_nothing(
        self, shop: EarlyShop
    ) -> None:
        await shop.kill("worker")
        customer = await shop.customer()
        order_id, flaky = [(await shop.place(customer, card=card)).json()["id"] for card in ("tok_ok", "tok_flaky")]
        assert {f"mail-{order_id}", f"invoice-{order_id}"} <= set(await jobs(shop, "waiting"))
        assert f"charge-{flaky}" in await jobs(shop, "delayed")
        await shop.start("step5_jobs/worker.py")
        await shop.got_mail(customer)
        await reaches(shop, f"mail-{order_id}", "completed")
        await becomes(shop, flaky, "confirmed")
        ledger = [json.loads(line) for line in (shop.folder / "card-provider.jsonl").read_text().splitlines()]
        assert [entry["outcome"] for entry in ledger if entry["key"] == flaky] == [
            "unavailable",
            "unavailable",
            "charged",
        ]

    async def test_a_mail_that_fails_again_and_again_is_visible_and_can_be_tried_again(self, shop: EarlyShop) -> None:
        customer = await shop.customer()
        shop.mail.refused.add(customer["email"])
        order_id = (await shop.place(customer)).json()["id"]
        job_id = f"mail-{order_id}"
        await reaches(shop, job_id, "delayed")
        failed = await reaches(shop, job_id, "failed")
        assert failed["attempts"] == shop.mail.attempts.count(customer["email"]) == 5
        assert "this mailbox is full" in failed["reason"]
        shop.mail.refused.clear()
        answer = await shop.client.post(f"{shop.urls['inside orders']}/jobs/{job_id}/retry", headers=INSIDE)
        assert answer.status_code == 202, answer.text
        await shop.got_mail(customer)
        await reaches(shop, job_id, "completed")

    async def test_a_refused_mail_does_not_stop_the_others(self, shop: EarlyShop) -> None:
        refused, other = await shop.customer(), await shop.customer()
        shop.mail.refused.add(refused["email"])
        order_id = (await shop.place(refused)).json()["id"]
        await shop.place(other)
        await shop.got_mail(other)
        await reaches(shop, f"mail-{order_id}", "failed")

    async def test_a_card_provider_that_is_away_is_asked_again_later_and_charges_once(self, shop: EarlyShop) -> None:
        customer = await shop.customer()
        answer = await shop.place(customer, card="tok_flaky")
        assert (answer.status_code, answer.json()["status"]) == (201, "payment pending")
        order_id = answer.json()["id"]
        await becomes(shop, order_id, "confirmed")
        assert shop.charges().count(order_id) == 1
        await shop.got_mail(customer)

    async def test_a_job_that_is_due_in_some_seconds_is_done_then(self, shop: EarlyShop, backends: Backends) -> None:
        """As after the last pauses of the page, which are shorter here. The worker waits for it on its socket, longer
        than a Redis client does by itself.
        """
        customer = await shop.customer()
        order = {"id": "due-later", "total": 1}
        queue = Queue(NAME, {"connection": backends.redis_url})
        await add_job(queue, "mail", "due-later", {"email": customer["email"], "order": order}, delay_ms=6000)
        await queue.close()
        await shop.got_mail(customer)

    async def test_an_order_that_can_not_be_paid_gives_its_stock_back(self, shop: EarlyShop) -> None:
        stock = await shop.stock()
        order_id = (await shop.place(await shop.customer(), card="tok_unavailable")).json()["id"]
        assert await shop.stock() == stock - 2
        await becomes(shop, order_id, "payment failed")

        async def back() -> bool:
            return await shop.stock() == stock

        await wait_until(back, seconds=30)
        await reaches(shop, f"charge-{order_id}", "failed")
        assert order_id not in shop.charges()

    async def test_invoices_are_numbered_without_holes_and_repeats(self, shop: EarlyShop) -> None:
        paid = {order_id for order_id, status in (await shop.orders()).items() if status == "confirmed"}
        folder = shop.folder / "invoices"

        async def written() -> bool:
            texts = [path.read_text() for path in sorted(folder.iterdir())]
            return len(texts) == len(paid)

        await wait_until(written, seconds=30)
        assert sorted(path.name for path in folder.iterdir()) == [
            f"{number:05}.txt" for number in range(1, len(paid) + 1)
        ]
        assert {path.read_text().split()[3] for path in folder.iterdir()} == paid

    async def test_after_redis_is_lost_the_jobs_are_lost_too(self, shop: EarlyShop, backends: Backends) -> None:
        shop.processes["worker"].send_signal(signal.SIGSTOP)
        order_id = (await shop.place(await shop.customer())).json()["id"]
        redis = Redis.from_url(backends.redis_url)
        await redis.flushall()
        await redis.aclose()
        assert await jobs(shop, "waiting") == {}
        assert (await shop.orders())[order_id] == "confirmed", (
            "and nothing in the shop knows that its customer waits for a mail"
        )
        shop.processes["worker"].send_signal(signal.SIGCONT)
