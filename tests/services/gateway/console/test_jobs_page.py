"""Background jobs in the console, over the queues of a service in another process."""

from collections.abc import AsyncIterator

import pytest

from caravan.clock import new_id
from caravan.jobs import JobRequest
from caravan.runtime import Backends
from tests.services.gateway.console.console_case import ConsoleCase
from tests.support.job_shop import get_context, handled_data, run_demo
from tests.support.shop import Shop, run_services, wait_until

NOTE = "demo.note-take"


@pytest.fixture(scope="module")
async def worker(backends: Backends) -> AsyncIterator[Shop]:
    async with run_demo(backends) as shop:
        yield shop


@pytest.fixture(scope="module")
async def jobs_console(backends: Backends, worker: Shop) -> AsyncIterator[ConsoleCase]:
    async with run_services(backends, "gateway") as shop:
        yield ConsoleCase(shop)


async def test_a_failed_job_is_found_by_its_state_and_retried(jobs_console: ConsoleCase, worker: Shop) -> None:
    mark = str(new_id())
    data = {"fails": 3, "mark": mark}
    (number,) = await get_context(worker).jobs.enqueue(NOTE, JobRequest(data))
    session, job_id = jobs_console.create_session("admin"), f"{NOTE}:{number}"
    path = f"/console/jobs?queue={NOTE}&state=failed"

    async def has_failed() -> bool:
        return job_id in (await jobs_console.get(session, path)).text

    await wait_until(has_failed)
    page = (await jobs_console.get(session, path)).text
    assert mark in page and f'aria-label="Retry {job_id}"' in page
    answer = await jobs_console.post(session, "/console/jobs/retry", {"job": job_id, "back": path})
    assert (answer.status_code, answer.headers["location"]) == (303, path)

    async def is_tried_again() -> bool:
        return handled_data.count(data) == 6

    await wait_until(is_tried_again)


async def test_a_queue_is_paused_and_resumed(jobs_console: ConsoleCase) -> None:
    session = jobs_console.create_session("admin")
    await jobs_console.post(session, "/console/jobs/pause", {"queue": NOTE})
    assert f'aria-label="Resume {NOTE}"' in (await jobs_console.get(session, "/console/jobs")).text
    await jobs_console.post(session, "/console/jobs/resume", {"queue": NOTE})
    assert f'aria-label="Pause {NOTE}"' in (await jobs_console.get(session, "/console/jobs")).text


async def test_no_form_leads_out_of_the_console(jobs_console: ConsoleCase) -> None:
    session = jobs_console.create_session("admin")
    answer = await jobs_console.post(
        session, "/console/jobs/resume", {"queue": NOTE, "back": "https://elsewhere.example/"}
    )
    assert answer.headers["location"].startswith("/console")


async def test_what_is_not_there_is_said_in_words(jobs_console: ConsoleCase) -> None:
    session = jobs_console.create_session("admin")
    assert "Show all jobs" in (await jobs_console.get(session, "/console/jobs?queue=no.such")).text
    assert (await jobs_console.post(session, "/console/jobs/remove", {"job": "a/b"})).status_code == 404
