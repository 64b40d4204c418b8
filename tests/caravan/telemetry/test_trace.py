"""What a batch makes names the batch's span, which readers link to."""

from opentelemetry.trace import SpanKind

from caravan import telemetry
from caravan.telemetry.traceparents import find_origin, new_traceparent
from tests.support.spans import collect_spans


def test_what_a_batch_makes_names_its_span_where_that_is_in_another_trace() -> None:
    first, second, stranger = new_traceparent(), new_traceparent(), new_traceparent()
    made_by = (first, second)
    with (
        collect_spans(),
        telemetry.start_span("process things", SpanKind.CONSUMER, parent=first, links=made_by, traces=made_by),
    ):
        current = telemetry.traceparent.get()
        assert telemetry.choose_traceparent(first) == current
        assert telemetry.choose_tracestate(current) is None, "its traceparent names the span already"
        assert telemetry.choose_traceparent(second) == second
        assert find_origin(telemetry.choose_tracestate(second)) == current
        assert telemetry.choose_tracestate(stranger) is None, "that trace does not lead here"
    assert telemetry.choose_tracestate(second) is None


def test_what_a_sweeper_took_up_is_linked_once_and_named_by_it() -> None:
    own, parcel = new_traceparent(), new_traceparent()
    with collect_spans() as spans, telemetry.start_span("run sweep", SpanKind.INTERNAL, parent=own):
        assert telemetry.choose_tracestate(parcel) is None
        telemetry.link_current_span([parcel, own, None, "x", parcel])
        assert find_origin(telemetry.choose_tracestate(parcel)) == telemetry.traceparent.get()
    (span,) = spans.all
    assert [link[3:35] for link in span.links] == [parcel[3:35]]
