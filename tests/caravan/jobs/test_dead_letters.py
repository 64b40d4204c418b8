"""Failed jobs lie beside the dead letters of the transports; without Redis those are still to be seen."""

import orjson

from caravan.clock import new_id
from caravan.dead_letters import DeadLetterService
from caravan.dead_letters.schemas import DiscardRequest, ListRequest, Selection
from caravan.jobs import JobRequest, JobStore
from caravan.jobs.dead_letters import JobDeadLetters
from tests.support.job_shop import NOTE, get_context, handled_data, wait_for_state
from tests.support.shop import Shop, wait_until


async def test_a_failed_job_is_listed_and_redriven_or_discarded(shop: Shop) -> None:
    data = {"fails": 3, "mark": str(new_id()), "card": "4111"}
    again, gone = await get_context(shop).jobs.enqueue(
        NOTE, JobRequest(data), JobRequest({"rejects": True, "mark": str(new_id())})
    )
    for job_id in (again, gone):
        await wait_for_state(shop, NOTE, job_id, "failed")
    dead_letter_service = DeadLetterService("demo", [JobDeadLetters(shop.process.jobs, [NOTE, "demo.never-announced"])])
    listed = {item.message_id: item for item in (await dead_letter_service.get_page(ListRequest(limit=100))).items}
    item = listed[f"{NOTE}:{again}"]
    assert (item.origin, item.subscription, item.attempts, item.redrivable) == ("job", NOTE, 3, True)
    assert item.reason.startswith("ValueError: attempt 3")
    assert item.payload["data"] == {**data, "card": "[masked]"}

    async def ignore_action(*_: object, **__: object) -> None: ...

    result = await dead_letter_service.redrive(Selection(ids=[item.id]), ignore_action)
    assert (result.selected, result.done) == (1, 1)
    await wait_until_run_again(shop, data)
    other = listed[f"{NOTE}:{gone}"]
    assert (
        await dead_letter_service.discard(DiscardRequest(ids=[other.id], reason="can't work"), ignore_action)
    ).done == 1
    assert f"{NOTE}:{gone}" not in {
        found.message_id for found in (await dead_letter_service.get_page(ListRequest(limit=100))).items
    }


async def wait_until_run_again(shop: Shop, data: object) -> None:
    async def has_run_again() -> bool:
        return handled_data.count(data) > 3

    await wait_until(has_run_again)


async def test_a_letter_has_the_shape_of_an_envelope_and_is_bounded(shop: Shop) -> None:
    source = JobDeadLetters(shop.process.jobs, [NOTE])
    ids = await get_context(shop).jobs.enqueue(
        NOTE, *(JobRequest({"rejects": True, "number": number}) for number in range(3))
    )
    for job_id in ids:
        await wait_for_state(shop, NOTE, job_id, "failed")
    letters = [letter for letter in await source.list_dead_letters(100, 10_000) if letter.id.partition(":")[2] in ids]
    assert [letter.dead_lettered_at for letter in letters] == sorted(letter.dead_lettered_at for letter in letters)
    envelope = orjson.loads(letters[0].body)
    assert (envelope["id"], envelope["type"]) == (letters[0].id, NOTE)
    assert envelope["data"]["rejects"] is True
    assert letters[0].key == "", "jobs have no order among each other"
    (first,) = await source.list_dead_letters(1, 10)
    assert len(first.body) == 10
    assert first.size > 10
    assert await source.discard(letters) == 3


async def test_what_somebody_else_has_dealt_with_is_not_counted(shop: Shop) -> None:
    source = JobDeadLetters(shop.process.jobs, [NOTE])
    (job_id,) = await get_context(shop).jobs.enqueue(NOTE, JobRequest({"rejects": True}))
    await wait_for_state(shop, NOTE, job_id, "failed")
    letters = [each for each in await source.list_dead_letters(100, 100) if each.id == f"{NOTE}:{job_id}"]
    assert await source.discard(letters) == 1
    assert await source.discard(letters) == 0
    assert await source.redrive(letters) == 0


async def test_without_redis_there_is_nothing_to_see_and_no_error() -> None:
    store = JobStore("redis://127.0.0.1:1/0")
    assert await JobDeadLetters(store, [NOTE]).list_dead_letters(10, 100) == []
    await store.close()
