"""What came of a call of a third party is told by one of four words."""

import pytest
from opentelemetry.trace import StatusCode
from prometheus_client import REGISTRY

from caravan.telemetry import ProviderCalls, provider_calls
from tests.support.spans import build_node, collect_spans, get_id

CALLS = ProviderCalls("tested")


def count(result: str) -> float | None:
    return REGISTRY.get_sample_value(
        "caravan_provider_call_duration_seconds_count", {"provider": "tested", "result": result}
    )


def test_each_result_has_a_series_from_the_start_and_is_counted_once() -> None:
    assert {count(result) for result in ("ok", "refused", "failed", "timeout")} == {0}
    with CALLS.observe("charge"):
        pass
    with CALLS.observe("charge") as call:
        call.result = "refused"
    with pytest.raises(TimeoutError), CALLS.observe("charge"):
        raise TimeoutError
    with pytest.raises(OSError, match="gone"), CALLS.observe("charge"):
        raise OSError("gone")
    assert {count(result) for result in ("ok", "refused", "failed", "timeout")} == {1}


def test_calls_at_once_are_one_span_beside_those_that_failed_or_were_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    with collect_spans() as spans, CALLS.observe_batch("charge", 3):
        with CALLS.observe("charge"):
            pass
        with pytest.raises(OSError, match="gone"), CALLS.observe("charge"):
            raise OSError("gone")
        monkeypatch.setattr(provider_calls, "SLOW_SECONDS", 0.0)
        with CALLS.observe("charge"):
            pass
    failed, slow, batch = spans.all
    assert {span.name for span in spans.all} == {"charge tested"}
    assert (failed.attributes or {})["error.type"] == "OSError"
    assert slow.status.status_code is StatusCode.UNSET
    assert (batch.attributes or {})["caravan.provider.calls"] == 3
    assert {build_node(span).parent for span in (failed, slow)} == {get_id(batch)}


def test_a_call_alone_is_a_span() -> None:
    with collect_spans() as spans, CALLS.observe("charge"):
        pass
    assert [span.name for span in spans.all] == ["charge tested"]
