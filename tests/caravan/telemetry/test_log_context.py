"""Lines say what is being handled, in fields of few names, and no parameter that may be a secret."""

from types import SimpleNamespace
from typing import Any

import pytest

from caravan import telemetry
from caravan.clock import new_id
from caravan.telemetry.log_context import KEYS_MAX, describe_context, find_entity, summarize_messages

ORDER = "0192f0c1-7d3a-7000-8000-00000000000a"


def make_deliveries(count: int) -> list[Any]:
    return [SimpleNamespace(id=new_id(), key=f"order-{number}") for number in range(count)]


def describe_handled(handled: telemetry.HandledMessages) -> dict[str, Any]:
    token = telemetry.handled_messages.set(handled)
    try:
        return describe_context()
    finally:
        telemetry.handled_messages.reset(token)


def test_a_message_is_named_with_its_key_by_what_the_key_is() -> None:
    (delivery,) = make_deliveries(1)
    found = describe_handled(telemetry.HandledMessages("order_id", [delivery]))
    assert found == {"order_id": "order-0", "message_id": str(delivery.id)}


def test_a_batch_names_the_keys_of_all_and_the_one_whose_turn_it_is() -> None:
    deliveries = make_deliveries(3)
    handled = telemetry.HandledMessages("order_id", [*deliveries, deliveries[0]])
    assert describe_handled(handled) == {"order_ids": ["order-0", "order-1", "order-2"]}
    handled.current = deliveries[1]
    assert describe_handled(handled) == {"order_id": "order-1", "message_id": str(deliveries[1].id)}


def test_a_line_has_a_bound() -> None:
    found = describe_handled(telemetry.HandledMessages("order_id", make_deliveries(KEYS_MAX + 50)))
    assert len(found["order_ids"]) == KEYS_MAX


@pytest.mark.parametrize(
    ("scope", "fields"),
    [
        ({"path": "/v1/x", "path_params": {"order_id": ORDER, "token": ORDER}}, {"order_id": ORDER}),
        ({"path": "/v1/x", "path_params": {"order_id": "canary"}}, {}),
        ({"path": f"/v1/orders/{ORDER}/cancel"}, {"order_id": ORDER}),
        ({"path": f"/v1/orders/{ORDER.upper()}"}, {"order_id": ORDER}),
        ({"path": "/v1/notifications/unsubscribe/canary"}, {}),
        ({"path": "/v1/orders"}, {}),
    ],
)
def test_a_request_is_about_the_ids_in_its_path(scope: dict[str, Any], fields: dict[str, str]) -> None:
    token = telemetry.request_scope.set(scope)
    try:
        assert describe_context() == fields
    finally:
        telemetry.request_scope.reset(token)
    assert describe_context() == {}


def test_a_location_names_what_was_made() -> None:
    assert find_entity(f"/v1/orders/{ORDER}") == {"order_id": ORDER}
    assert find_entity("") == {}


def test_the_line_of_a_batch_names_all_its_keys_but_those_that_are_no_ids() -> None:
    deliveries = [*make_deliveries(2), SimpleNamespace(id=new_id(), key="password=canary")]
    assert summarize_messages("order_id", deliveries) == {"order_ids": "order-0 order-1"}
    assert summarize_messages("order_id", deliveries[:1]) == {
        "order_id": "order-0",
        "message_id": str(deliveries[0].id),
    }
