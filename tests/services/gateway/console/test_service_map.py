"""The map of the services: boxes apart from each other, lines from edge to edge, wider where more flows."""

from itertools import combinations
from typing import Any

from services.gateway.console.service_map import BOX_HEIGHT, BOX_WIDTH, HEIGHT, ORDER, WIDTH, draw_map


def make_service(name: str) -> dict[str, Any]:
    return {"name": name, "state": "up", "requests": {"answered": {"per_second": 1.0}}, "waiting": 0}


def make_channel(name: str, publishers: list[str], **rates: float | None) -> dict[str, Any]:
    subscriptions = [{"service": service, "handled": {"per_second": rate}} for service, rate in rates.items()]
    return {"name": name, "publishers": publishers, "subscriptions": subscriptions}


def test_no_box_covers_another_or_leaves_the_map() -> None:
    boxes = draw_map([make_service(name) for name in (*ORDER, "loyalty")], [])["boxes"]
    assert len(boxes) == len(ORDER) + 1
    for box in boxes:
        assert 0 <= box.left <= WIDTH - BOX_WIDTH and 0 <= box.top <= HEIGHT - BOX_HEIGHT
    for one, other in combinations(boxes, 2):
        assert abs(one.x - other.x) >= BOX_WIDTH or abs(one.y - other.y) >= BOX_HEIGHT, (one.name, other.name)


def test_a_line_is_the_sum_of_all_channels_between_two_services() -> None:
    services = [make_service("orders"), make_service("analytics"), make_service("processing")]
    channels = [
        make_channel("order-created", ["orders"], analytics=40.0, processing=2.0),
        make_channel("order-delivered", ["orders"], analytics=20.0, processing=None),
        make_channel("saga", ["processing"], processing=9.0),
    ]
    lines = {(line.source, line.target): line for line in draw_map(services, channels)["lines"]}
    assert lines.keys() == {("orders", "analytics"), ("orders", "processing")}, "nobody sends to himself"
    analytics = lines["orders", "analytics"]
    assert (analytics.per_second, analytics.flow, analytics.channels) == (
        60.0,
        "fast",
        ["order-created", "order-delivered"],
    )
    assert lines["orders", "processing"].flow == "slow"


def test_publishers_of_one_channel_share_what_its_reader_handled() -> None:
    services = [make_service("orders"), make_service("identity"), make_service("analytics")]
    lines = draw_map(services, [make_channel("audit", ["identity", "orders"], analytics=3.0)])["lines"]
    assert {line.source: line.per_second for line in lines} == {"identity": 1.5, "orders": 1.5}
