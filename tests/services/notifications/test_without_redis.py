"""While the Redis of the jobs is away, mails go out all the same."""

from pathlib import Path

from caravan.runtime import Backends
from tests.services.notifications.conftest import Mailbox, ask, back_in_stock, row
from tests.support.shop import run_services, wait_until


async def test_without_redis_mails_are_sent_by_the_sweeper(backends: Backends, tmp_path: Path) -> None:
    without_redis = Backends(backends.database_url, backends.redis_url, backends.secret, "redis://127.0.0.1:1/0")
    async with run_services(without_redis, "notifications", data=tmp_path, public_url="https://shop.example") as shop:
        command = back_in_stock()
        await ask(shop, command)

        async def sent() -> bool:
            found = await row(shop, command.about)
            return bool(found and found["state"] == "sent")

        await wait_until(sent, seconds=20)
        assert len(Mailbox(tmp_path / "mail").mails("MUG")) == 1
