"""What single pages show and do, short of a browser."""

from urllib.parse import quote

import pytest

from caravan.clock import new_id
from services.gateway.console.rendering import format_foreign, mark_state
from services.gateway.console.timeline_rows import build_rows, format_offset, format_title
from services.gateway.console.views.failures import mask_personal_data
from services.gateway.console.views.order import build_steps
from tests.services.gateway.console.console_case import ConsoleCase

HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m"


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", "/console/orders/0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"),
        ("4BF92F3577B34DA6A3CE929D0E0E4736", "/console/orders?trace_id=4bf92f3577b34da6a3ce929d0e0e4736"),
    ],
)
async def test_a_search_leads_to_what_was_searched_for(console: ConsoleCase, text: str, location: str) -> None:
    answer = await console.get(console.create_session("staff"), f"/console/orders?q={text}")
    assert (answer.status_code, answer.headers["location"]) == (303, location)


async def test_what_leads_nowhere_is_said_and_escaped(console: ConsoleCase) -> None:
    answer = await console.get(console.create_session("staff"), f"/console/orders?q={quote(HOSTILE)}")
    assert answer.status_code == 200
    assert "Nothing found" in answer.text
    assert "<script>alert" not in answer.text
    assert "\u202e" not in answer.text.partition("<main")[2].partition("value=")[0]


async def test_filters_of_nonsense_are_an_answer_and_no_error(console: ConsoleCase) -> None:
    for query in ("status=nonsense", "user_id=nobody", "trace_id=x", "cursor=x", "cursor=" + "A" * 5000):
        answer = await console.get(console.create_session("staff"), f"/console/orders?{query}")
        assert answer.status_code == 200, query
        assert "These filters are not valid" in answer.text, query


async def test_nothing_in_stock_is_said_on_a_page(console: ConsoleCase) -> None:
    answer = await console.post(console.create_session("customer"), "/console/orders/place-sample")
    assert answer.status_code == 409
    assert "No product is in stock" in answer.text


async def test_an_order_that_is_not_there_is_a_page_with_the_reason(console: ConsoleCase) -> None:
    for order_id in (new_id(), "nonsense"):
        answer = await console.get(console.create_session("staff"), f"/console/orders/{order_id}")
        assert answer.status_code in (404, 422), answer.text
        assert answer.headers["content-type"].startswith("text/html")


async def test_a_live_stream_of_a_stranger_is_refused_as_the_api_refuses_it(console: ConsoleCase) -> None:
    answer = await console.get(console.create_session("customer"), f"/console/orders/{new_id()}/live?after=1")
    assert answer.status_code == 404


@pytest.mark.parametrize("name", ["nothing.css", "..%2Frendering.py", "layout.html", "console.js.map"])
async def test_only_the_files_of_the_console_are_served(console: ConsoleCase, name: str) -> None:
    assert (await console.get(None, f"/console/static/{name}")).status_code == 404


async def test_files_may_be_kept_for_ever_as_their_address_names_their_content(console: ConsoleCase) -> None:
    answer = await console.get(None, "/console/static/console.css")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"].startswith("text/css")


def test_what_others_wrote_is_bounded_and_visible() -> None:
    shown = format_foreign(HOSTILE + "x" * 1000, 60)
    assert len(shown) <= 60
    assert shown.isprintable()
    assert "<b>" not in str(mark_state("<b>"))


def test_persons_in_a_message_are_hidden_and_the_rest_is_not() -> None:
    message = {"data": {"email": "ada@example.com", "address": {"lines": ["12 St"]}, "sku": "MUG", "quantity": 2}}
    assert mask_personal_data(message) == {
        "data": {"email": "a•••", "address": {"lines": ["1•••"]}, "sku": "MUG", "quantity": 2}
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "+0 ms"),
        (0.0324, "+32 ms"),
        (4.21, "+4.2 s"),
        (125, "+2 min 5 s"),
        (7380, "+2 h 3 min"),
        (180000, "+2 d 2 h"),
    ],
)
def test_an_offset_is_as_exact_as_it_is_of_use(seconds: float, text: str) -> None:
    assert format_offset(seconds) == text


def test_titles_are_words() -> None:
    assert format_title("inventory.InventoryReserved", "topics") == "Inventory reserved"
    assert format_title("personal_data.shown", "audit") == "Personal data shown"


def test_a_repeated_delivery_and_a_pause_are_marked() -> None:
    item = {
        "id": "message:1",
        "source": "queues",
        "kind": "payments.CapturePayment",
        "causal_time": "2026-01-01T00:00:00Z",
        "cause": None,
        "actor": None,
        "trace_id": None,
        "state": {},
        "details": {"channel": "payments.capture", "amount": {"amount": 1250, "currency": "GBP"}},
        "deliveries": [{"consumer": "payments.capture", "deliveries": 3, "effects": 1}],
    }
    later = {**item, "id": "message:2", "causal_time": "2026-01-01T00:00:03Z", "cause": "message:1", "deliveries": []}
    first, second = build_rows([item, later], "")
    assert (first["is_repeated"], first["pause"], first["details"]) == (True, "", [("amount", "12.50 GBP")])
    assert (second["is_repeated"], second["pause"], second["cause"]) == (False, "3.0 s later", 1)
    assert build_rows([item], "mails") == []


def test_an_order_that_ends_otherwise_has_its_end_as_the_last_step() -> None:
    items = [{"source": "events", "state": {"status": status}, "time": status} for status in ("created", "rejected")]
    steps = build_steps("rejected", items)
    assert [(step["name"], step["is_reached"]) for step in steps] == [("created", True), ("rejected", True)]
    assert [step["is_reached"] for step in build_steps("paid", [])] == [True, True, True, False, False]
