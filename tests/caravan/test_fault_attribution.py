"""Whose fault it is that a request has no good answer."""

import httpx2
import pytest

from caravan.errors import CapacityExceeded, NotFound, ServiceUnavailable
from caravan.fault_attribution import DEPENDENCY, UNKNOWN, has_failed, has_failed_with, is_connection_lost


@pytest.mark.parametrize(
    ("status", "fault", "failed"),
    [
        (200, "", False),
        (404, "", False),
        (500, "", False),
        (503, "", True),
        (502, "", True),
        (504, "", True),
        (503, DEPENDENCY, False),
        (503, UNKNOWN, None),
    ],
)
def test_an_answer_counts_against_a_service_only_when_it_is_its_own_failure(
    status: int, fault: str, failed: bool | None
) -> None:
    assert has_failed(status, fault) is failed


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        (httpx2.ConnectError("refused"), True),
        (httpx2.ReadError("reset"), True),
        (httpx2.ReadTimeout("silent"), True),
        (httpx2.PoolTimeout("our own bound"), None),
        (ServiceUnavailable("away"), True),
        (CapacityExceeded("full"), None),
        (NotFound("no such order"), False),
        (ValueError("ours"), None),
    ],
)
def test_what_was_raised_counts_by_whose_it_is(error: Exception, failed: bool | None) -> None:
    assert has_failed_with(error) is failed


def test_a_timeout_is_no_lost_connection() -> None:
    assert is_connection_lost(httpx2.ConnectTimeout("nobody there"))
    assert is_connection_lost(httpx2.RemoteProtocolError("closed"))
    assert not is_connection_lost(httpx2.ReadTimeout("silent"))
    assert not is_connection_lost(httpx2.LocalProtocolError("our request"))
