"""Readers' spans follow from those in which their messages were made, on each broker: what the envelope carries is
enough, whichever process reads it.
"""

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from caravan import telemetry
from caravan.bus import PublishFailure
from caravan.bus.observation import PublishSpans
from caravan.clock import new_id
from caravan.database import Database
from caravan.messages import OutgoingMessage
from tests.caravan.bus.test_pipeline_inbox import TEST_BROKERS, make_outgoing, run_inbox
from tests.caravan.bus.test_pipeline_inbox import database as database  # noqa: PLC0414 -- a fixture
from tests.support.spans import build_node, collect_spans, get_id


def make_traced(transport: str, text: str, key: str = "key") -> OutgoingMessage:
    """As a request's handler emits it, in a span of its own."""
    with telemetry.start_span("request", SpanKind.SERVER, parent=telemetry.new_traceparent()):
        return make_outgoing(transport, text, key, traceparent=telemetry.choose_traceparent())


async def test_in_another_process_a_batch_links_to_the_maker_of_each_message(database: Database) -> None:
    """What this one has published it knows; what it has not is known by the envelopes alone."""
    with collect_spans() as spans:
        messages = [make_traced("kafka", str(new_id()), str(number)) for number in range(20)]
        async with run_inbox("kafka", database) as publish:
            await publish(messages)
    (reader,) = spans.list_consumers()
    assert {get_id(span) for span in spans.all if span.name == "request"} == set(build_node(reader).causes)


def make_caused(transport: str, text: str, cause: OutgoingMessage) -> OutgoingMessage:
    """As a batch's handler emits it because of one of its messages."""
    carried = telemetry.choose_traceparent(cause.traceparent)
    return make_outgoing(
        transport, f"{text} {new_id()}", text, traceparent=carried, tracestate=telemetry.choose_tracestate(carried)
    )


async def test_a_batch_follows_from_each_of_its_messages(database: Database) -> None:
    with collect_spans() as spans:
        messages = [make_traced("kafka", str(new_id()), str(number)) for number in range(150)]
        with PublishSpans(messages, "kafka"):
            pass
        async with run_inbox("kafka", database) as publish:
            await publish(messages)
    made = {get_id(span) for span in spans.all if span.name == "request"}
    (publisher,) = [span for span in spans.all if span.kind is SpanKind.PRODUCER]
    (reader,) = spans.list_consumers()
    assert made == set(build_node(publisher).causes)
    assert build_node(reader).links == (get_id(publisher),), "one link leads to all of them"
    assert (publisher.name, reader.name) == ("publish inbox-noted", "process inbox-noted")
    assert (reader.attributes or {})["messaging.batch.message_count"] == 150


async def test_messages_that_a_batch_made_lead_back_to_it_by_one_link(database: Database) -> None:
    with collect_spans() as spans:
        requests = [make_traced("kafka", "") for _ in range(20)]
        carried = [request.traceparent for request in requests]
        with telemetry.start_span("batch", SpanKind.CONSUMER, parent=carried[0], links=carried, traces=carried):
            messages = [make_caused("kafka", str(number), request) for number, request in enumerate(requests)]
        with PublishSpans(messages, "kafka"):
            pass
        async with run_inbox("kafka", database) as publish:
            await publish(messages)
    (batch,) = [span for span in spans.all if span.name == "batch"]
    (publisher,) = [span for span in spans.all if span.kind is SpanKind.PRODUCER]
    reader = spans.list_consumers()[-1]
    assert {get_id(batch)} == set(build_node(publisher).causes) == set(build_node(reader).causes)
    graph = spans.build_graph()
    for request in requests:
        assert request.traceparent
        assert "process inbox-noted" in {node.name for node in graph.list_journey(request.traceparent[3:35])}


@pytest.mark.parametrize("transport", TEST_BROKERS)
async def test_a_lone_message_has_its_maker_as_parent(transport: str, database: Database) -> None:
    with collect_spans() as spans:
        message = make_traced(transport, str(new_id()))
        async with run_inbox(transport, database) as publish:
            await publish([message])
    (reader,) = spans.list_consumers()
    (maker,) = [span for span in spans.all if span.name == "request"]
    assert build_node(reader).causes == (get_id(maker),)
    attributes = reader.attributes or {}
    assert attributes["messaging.message.id"] == str(message.id)
    assert attributes["messaging.system"] == transport
    assert attributes["text"] == "key", "the key, by what the channel says that it is"


@pytest.mark.parametrize("transport", TEST_BROKERS)
async def test_another_attempt_is_linked_to_the_first(transport: str, database: Database) -> None:
    with collect_spans() as spans:
        message = make_traced(transport, f"fail {new_id()} token=canary")
        async with run_inbox(transport, database) as publish:
            for _ in range(3):
                await publish([message])
    first, second, third = spans.list_consumers()
    for later in (second, third):
        assert build_node(later).links == (get_id(first),)
    assert first.status.status_code is StatusCode.ERROR
    assert not first.links
    assert first.attributes["error.type"] == "RuntimeError"


async def test_messages_of_a_batch_that_failed_are_linked_to_it(database: Database) -> None:
    with collect_spans() as spans:
        messages = [make_traced("kafka", "fail", "bad"), make_traced("kafka", str(new_id()), "good")]
        async with run_inbox("kafka", database) as publish:
            await publish(messages)
    whole, *alone = spans.list_consumers()
    assert len(alone) == 2
    for span in alone:
        assert get_id(whole) in build_node(span).links
    assert spans.build_graph().list_orphans() == []


def test_what_was_not_published_is_an_error_of_its_channel_alone() -> None:
    with collect_spans() as spans:
        good, bad = make_traced("kafka", "good"), make_traced("rabbitmq", "bad")
        with PublishSpans([good, bad], "kafka") as publishing:
            publishing.record_failures([PublishFailure(bad, "no room, password=canary")])
    status = {span.name: span.status for span in spans.all if span.kind is SpanKind.PRODUCER}
    assert status["publish inbox-noted"].status_code is StatusCode.UNSET
    assert status["publish inbox-notes"].status_code is StatusCode.ERROR
    assert "canary" not in str(status["publish inbox-notes"].description)


async def test_without_a_collector_a_message_still_names_the_trace_it_came_from(database: Database) -> None:
    message = make_traced("kafka", str(new_id()))
    assert telemetry.parse_traceparent(message.traceparent)
    assert message.traceparent
    assert message.traceparent.endswith("-00"), "no span of that name is recorded"
    with collect_spans() as spans:
        async with run_inbox("kafka", database) as publish:
            await publish([message])
    (reader,) = spans.list_consumers()
    assert reader.parent_id is None, "it would be a parent that nobody has"
    assert reader.trace_id == message.traceparent[3:35]
