"""The administration of jobs at the gateway and on the command line, over the queues of services that run in another
process.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from typer.testing import CliRunner

from caravan import telemetry
from caravan.clock import new_id
from caravan.http import encode_cursor
from caravan.jobs import JobRequest
from caravan.runtime import Backends
from cli import app
from tests.support.job_shop import get_context, handled_data, run_demo
from tests.support.shop import Shop, run_services, wait_until

NOTE = "demo.note-take"


@pytest.fixture(scope="module")
async def worker(backends: Backends) -> AsyncIterator[Shop]:
    async with run_demo(backends) as shop:
        yield shop


@pytest.fixture(scope="module")
async def gateway(backends: Backends, worker: Shop) -> AsyncIterator[Shop]:
    """A process that has none of the queues itself."""
    async with run_services(backends, "gateway") as shop:
        yield shop


async def call(gateway: Shop, method: str, path: str, **options: Any) -> Any:
    return await gateway.client.request(method, path, headers=gateway.issue_headers("admin"), **options)


async def in_state(gateway: Shop, job_id: str, state: str) -> dict[str, Any]:
    async def reached() -> dict[str, Any] | None:
        found: dict[str, Any] = (await call(gateway, "GET", f"/v1/jobs/{job_id}")).json()
        return found if found.get("state") == state else None

    found = await wait_until(reached)
    assert found is not None
    return found


async def enqueue(worker: Shop, *new: JobRequest) -> list[str]:
    return [f"{NOTE}:{job_id}" for job_id in await get_context(worker).jobs.enqueue(NOTE, *new)]


async def test_a_failed_job_is_found_and_retried(gateway: Shop, worker: Shop) -> None:
    data = {"fails": 3, "mark": str(new_id())}
    (job_id,) = await enqueue(worker, JobRequest(data))
    found = await in_state(gateway, job_id, "failed")
    assert found["reason"].startswith("ValueError: attempt 3 of order")
    assert found["payload"] == data
    assert found["attempts"] == 3
    listed = (await call(gateway, "GET", f"/v1/jobs?state=failed&queue={NOTE}")).json()["items"]
    assert job_id in [item["id"] for item in listed]
    retried = await call(gateway, "POST", f"/v1/jobs/{job_id}/retry")
    assert retried.status_code == 200, retried.text

    async def tried_again() -> bool:
        return handled_data.count(data) == 6

    await wait_until(tried_again)


async def test_a_delayed_job_is_promoted_and_what_fits_no_state_is_refused_with_the_reason(
    gateway: Shop, worker: Shop
) -> None:
    (job_id,) = await enqueue(worker, JobRequest({"mark": "promoted"}, delay=timedelta(hours=3)))
    refused = await call(gateway, "POST", f"/v1/jobs/{job_id}/retry")
    assert refused.status_code == 409
    assert "is delayed" in refused.json()["detail"]
    assert (await call(gateway, "POST", f"/v1/jobs/{job_id}/promote")).status_code == 200
    await in_state(gateway, job_id, "completed")
    assert (await call(gateway, "POST", f"/v1/jobs/{job_id}/promote")).status_code == 409
    assert (await call(gateway, "DELETE", f"/v1/jobs/{job_id}")).status_code == 204
    missing = await call(gateway, "GET", f"/v1/jobs/{job_id}")
    assert missing.status_code == 404
    assert "GET /v1/jobs" in missing.json()["detail"]


async def test_pages_join_without_gaps(gateway: Shop, worker: Shop) -> None:
    ids = await enqueue(
        worker, *(JobRequest({"page": number}, delay=timedelta(hours=1, seconds=number)) for number in range(25))
    )
    seen: list[str] = []
    cursor = None
    while True:
        page = (
            await call(gateway, "GET", f"/v1/jobs?state=delayed&limit=10{'&cursor=' + cursor if cursor else ''}")
        ).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [job_id for job_id in seen if job_id in ids] == ids
    assert len(seen) == len(set(seen))
    assert (await call(gateway, "GET", "/v1/jobs?cursor=nonsense")).status_code == 400
    elsewhere = encode_cursor("demo.few-keep", "failed", 3)
    assert (await call(gateway, "GET", f"/v1/jobs?queue={NOTE}&cursor={elsewhere}")).status_code == 400
    cleaned = await call(gateway, "POST", "/v1/jobs/clean", json={"queue": NOTE, "state": "delayed"})
    assert cleaned.json() == {"removed": 25}


async def test_a_queue_is_paused_and_resumed_and_shows_its_schedule(gateway: Shop, worker: Shop) -> None:
    assert (await call(gateway, "POST", f"/v1/jobs/queues/{NOTE}/pause")).status_code == 204
    (job_id,) = await enqueue(worker, JobRequest({"mark": "paused"}))
    listed = {item["name"]: item for item in (await call(gateway, "GET", "/v1/jobs/queues")).json()["items"]}
    assert listed[NOTE]["paused"]
    assert listed[NOTE]["counts"]["waiting"] == 1
    assert listed["demo.clock-tick"]["schedule"] == "every 0.2 s"
    assert listed["demo.clock-tick"]["next_at"]
    assert (await call(gateway, "POST", f"/v1/jobs/queues/{NOTE}/resume")).status_code == 204
    await in_state(gateway, job_id, "completed")
    unknown = await call(gateway, "POST", "/v1/jobs/queues/nobody.nothing-done/pause")
    assert unknown.status_code == 404
    assert NOTE in unknown.json()["detail"]


async def test_only_admins_see_jobs(gateway: Shop) -> None:
    for role in ("customer", "staff"):
        assert (await gateway.client.get("/v1/jobs", headers=gateway.issue_headers(role))).status_code == 403


async def test_the_command_line_shows_the_same(
    worker: Shop, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the gateway: what it does is tried where the whole shop runs."""
    monkeypatch.setenv("CARAVAN_JOBS_REDIS_URL", backends.redis_url)
    monkeypatch.setattr(
        telemetry, "configure_logs", lambda *_: None
    )  # the runner closes its streams, the log would write to them
    (failed,) = await enqueue(worker, JobRequest({"fails": 3, "mark": str(new_id())}))

    async def command(*arguments: str) -> str:
        result = await asyncio.to_thread(CliRunner().invoke, app, ["jobs", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout  # what the worker logs meanwhile is on stderr

    async def listed(state: str) -> list[str]:
        return [entry["id"] for entry in orjson.loads(await command("list", "--state", state, "--output", "json"))]

    async def has_failed() -> bool:
        return failed in await listed("failed")

    await wait_until(has_failed)
    assert orjson.loads(await command("show", failed, "--output", "json"))["attempts"] == 3
    assert "ValueError" in await command("show", failed)
    assert failed in await command("list", "--state", "failed")
    assert NOTE in await command("queues")
    result = await asyncio.to_thread(CliRunner().invoke, app, ["jobs", "show", "nobody:1"])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    "job_id",
    [
        "meta",
        "wait",
        "active",
        "events",
        "id",
        "",
        ":",
        "repeat",
        "repeat:demo.note-take",
        "1:lock",
        "1:logs",
        "*",
        "ä",
        "9" * 99,
    ],
)
async def test_an_id_that_names_another_key_of_redis_is_no_job(gateway: Shop, worker: Shop, job_id: str) -> None:
    """Nothing is removed, and Redis isn't said to be away."""
    client, quoted = get_context(worker).jobs.store.client, quote(f"{NOTE}:{job_id}", safe="")
    await client.set(f"caravan:{NOTE}:1:lock", "held")
    settings = await client.hgetall(f"caravan:{NOTE}:meta")
    for method, path in (("GET", ""), ("POST", "/retry"), ("POST", "/promote"), ("DELETE", "")):
        answer = await call(gateway, method, f"/v1/jobs/{quoted}{path}")
        assert answer.status_code == 404 and "no job" in answer.json()["detail"], (method, path, answer.text)
    assert settings
    assert await client.hgetall(f"caravan:{NOTE}:meta") == settings
    assert await client.getdel(f"caravan:{NOTE}:1:lock") == "held"


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("GET", "%00", "path.job_id"),
        ("DELETE", "%00", "path.job_id"),
        ("POST", "%00/retry", "path.job_id"),
        ("POST", "queues/%00/pause", "path.queue"),
    ],
)
async def test_what_the_audit_log_could_not_hold_is_refused_by_its_field(
    gateway: Shop, method: str, path: str, field: str
) -> None:
    answer = await call(gateway, method, f"/v1/jobs/{path}")
    assert answer.status_code == 422 and [error["field"] for error in answer.json()["errors"]] == [field], answer.text


@pytest.mark.parametrize("job_id", ["meta", "delayed", "12", "a:b", "", "a b", "ä"])
async def test_a_job_is_not_given_the_name_of_another_key(worker: Shop, job_id: str) -> None:
    with pytest.raises(ValueError, match="the id of a job"):
        await get_context(worker).jobs.enqueue(NOTE, JobRequest(id=job_id))


@pytest.mark.parametrize("part", [True, False, None, 1.0, "1", -1, 2**31, [0], {}])
async def test_a_cursor_with_another_offset_is_refused(gateway: Shop, part: Any) -> None:
    answer = await call(gateway, "GET", f"/v1/jobs?cursor={encode_cursor(NOTE, 'failed', part)}")
    assert answer.status_code == 400, answer.text
    assert (await call(gateway, "GET", f"/v1/jobs?cursor={encode_cursor(part, 'failed', 0)}")).status_code == 400
