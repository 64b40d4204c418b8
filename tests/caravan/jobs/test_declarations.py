"""Which ids a job may have: what could name another key of Redis is none."""

import pytest

from caravan.jobs import Jobs
from caravan.jobs.declarations import is_custom_id, is_job_id


@pytest.mark.parametrize("text", ["order-1", "a", "0190-ab_C", "x" * 200])
def test_a_job_may_be_given_a_word(text: str) -> None:
    assert is_custom_id(text)
    assert is_job_id(text)


@pytest.mark.parametrize("text", ["1", "42", "repeat:daily-report:1700000000000"])
def test_numbers_and_runs_of_schedules_are_given_by_the_queue_alone(text: str) -> None:
    assert not is_custom_id(text)
    assert is_job_id(text)


@pytest.mark.parametrize("text", ["", "wait", "active", "meta", "a:b", "a b", "é", "x" * 201, "1" * 21])
def test_names_of_the_queues_own_keys_are_no_ids(text: str) -> None:
    assert not is_job_id(text)


@pytest.mark.parametrize("name", ["other.note-take", "demo.note", "demo.Note-Take"])
def test_a_job_is_named_by_its_service_and_what_is_done_to_what(name: str) -> None:
    with pytest.raises(ValueError, match="is named demo"):
        Jobs("demo").job(name)
