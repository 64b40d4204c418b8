"""Requests about campaigns, and the customers that they are for."""

from collections import Counter
from datetime import datetime
from typing import Any
from uuid import UUID

from caravan.clock import new_id, utc_now
from services.notifications.store.recipients import Recipient, upsert_recipients
from tests.services.notifications.conftest import Carrier
from tests.support.shop import Shop, wait_until

BODY = {"name": "Spring", "subject": "Tea at half price", "text": "Only today.\n\nCome and see."}


async def create_customers(shop: Shop, number: int, registered: datetime | None = None) -> list[UUID]:
    made = [
        Recipient(new_id(), f"user{place}@example.com", f"User {place}", True, 0, registered or utc_now())
        for place in range(number)
    ]
    async with shop.get_database("notifications").unit_of_work() as uow:
        await upsert_recipients(uow, made)
    return [recipient.user_id for recipient in made]


async def create_campaign(shop: Shop, **changes: Any) -> Any:
    answer = await shop.client.post("/v1/campaigns", json={**BODY, **changes}, headers=shop.issue_headers("staff"))
    assert answer.status_code == 201, answer.text
    return answer.json()


async def get_campaign(shop: Shop, campaign: dict[str, Any]) -> Any:
    answer = await shop.client.get(f"/v1/campaigns/{campaign['id']}", headers=shop.issue_headers("staff"))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def wait_for_end(
    shop: Shop, campaign: dict[str, Any], status: str = "done", seconds: float = 20
) -> dict[str, Any]:
    async def there() -> dict[str, Any] | None:
        found = await get_campaign(shop, campaign)
        return (
            found
            if found["status"] == status and found["runs"] and found["runs"][0]["status"] not in ("writing", "sending")
            else None
        )

    found = await wait_until(there, seconds=seconds)
    assert found is not None
    return found


def count_readers(carrier: Carrier) -> Counter[str]:
    return Counter(message.dedup_key.rpartition(":")[2] for message in carrier.messages if message.kind == "campaign")
