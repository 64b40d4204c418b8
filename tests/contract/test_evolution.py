"""A published message keeps its promise: today's classes match the published schemas, and each kind of breach is
refused with what to do about it.
"""

from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import orjson
import pytest
from pydantic import BaseModel, Field, create_model

from caravan.messages import Event, Message
from services.orders.messages import OrderCreated
from tools import generate_docs, message_schemas
from tools.message_schemas import build_schema, find_changes, find_violations, list_sent_types, list_stored_types


def test_todays_messages_keep_what_is_published() -> None:
    assert find_violations(list_sent_types(), list_stored_types()) == []


class Line(BaseModel):
    sku: str
    quantity: int = Field(ge=1)


class Placed(Event):
    order_id: UUID
    note: str | None
    outcome: Literal["completed", "rejected"]
    lines: list[Line]
    channel: str = "web"


def change_message(
    base_type: type[Message] = Placed, *, without: tuple[str, ...] = (), number: int = 1, **fields: Any
) -> type[Message]:
    """The class as somebody might have changed it, in place."""
    kept_fields = {
        name: (field.annotation, field) for name, field in base_type.model_fields.items() if name not in without
    }
    message_type: type[Message] = create_model(base_type.__name__, __base__=Event, **{**kept_fields, **fields})
    message_type.type, message_type.version = base_type.type, number
    return message_type


class LineWithGift(Line):
    gift: bool = False


LineWithGift.__name__ = "Line"


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (change_message(without=("note",)), "field `note` was removed"),
        (change_message(without=("note",), remark=(str | None, ...)), "field `note` was renamed to `remark`"),
        (change_message(note=(str, ...)), "`note` was"),
        (change_message(order_id=(str, ...)), "`order_id` was"),
        (change_message(lines=(list[str], ...)), "`lines[]` was"),
        (change_message(customer=(str, ...)), "field `customer` is new and has no default"),
        (change_message(customer=(str, ...), number=2), "field `customer` is new and has no default"),
        (
            change_message(customer=(str, "")),
            "field `customer` was added, but the class is still version 1. Set `version = 2`",
        ),
        (
            change_message(lines=(list[LineWithGift], ...)),
            "field `lines[].gift` was added, but the class is still version 1",
        ),
        (change_message(outcome=(Literal["completed"], ...)), "was"),
        (
            change_message(outcome=(Literal["completed", "rejected", "lost"], ...)),
            "`outcome` allows ['lost'], which readers don't know",
        ),
        (change_message(channel=(str, "app")), "the default of `channel` was 'web' and is 'app'"),
        (change_message(channel=(str, ...)), "field `channel` is required now"),
        (change_message(order_id=(UUID, None)), "field `order_id` may be absent now"),
    ],
)
def test_each_kind_of_breach_is_refused_in_words(after: type[Message], says: str) -> None:
    found = find_changes("test.Placed", 1, build_schema(Placed), build_schema(after), raised=after.version > 1)
    assert any(says in text for text in found), found
    assert all("make a new class PlacedV2" in text or "make docs" in text for text in found), "each says what to do"


def test_an_enum_of_three_narrowed_to_two_names_what_it_lost() -> None:
    wide = change_message(outcome=(Literal["completed", "rejected", "cancelled"], ...))
    found = find_changes("test.Placed", 1, build_schema(wide), build_schema(Placed), raised=True)
    assert "`outcome` no longer allows ['cancelled']" in found[0]


@pytest.mark.parametrize(
    "after",
    [
        change_message(),
        change_message(customer=(str, ""), number=2),
        change_message(lines=(list[LineWithGift], ...), number=2),
        change_message(note=(str | None, Field(description="Told to the packer.", examples=["fragile"]))),
    ],
)
def test_what_no_reader_can_notice_or_a_raised_version_tells_is_allowed(after: type[Message]) -> None:
    assert find_changes("test.Placed", 1, build_schema(Placed), build_schema(after), raised=after.version > 1) == []


def test_a_closed_shape_takes_no_field_even_with_a_default() -> None:
    class Amount(BaseModel):
        model_config = {"extra": "forbid"}
        amount: int

    class Wider(Amount):
        scale: int = 2

    before, after = change_message(total=(Amount, ...)), change_message(total=(Wider, ...), number=2)
    found = find_changes("test.Placed", 1, build_schema(before), build_schema(after), raised=True)
    assert "`total` was published as closed" in found[0]


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (
            change_message(OrderCreated, without=("customer_name",), number=2),
            "orders.OrderCreated v2: field `customer_name` was removed",
        ),
        (
            change_message(OrderCreated, coupon=(str | None, None), number=2),
            "Set `version = 3`, then run `make docs` and `python -m tests.contract.record`",
        ),
        (
            change_message(OrderCreated, coupon=(str | None, None), number=4),
            "version 3 was never published. Raise by one",
        ),
        (change_message(OrderCreated, number=0), "A version never goes back"),
    ],
)
def test_a_real_message_changed_in_place_is_refused(after: type[Message], says: str) -> None:
    others = [kind for kind in list_sent_types() if kind is not OrderCreated]
    found = find_violations([*others, after], list_stored_types())
    assert any(says in text for text in found), found


def test_a_real_message_may_gain_a_field_with_a_raised_version() -> None:
    others = [kind for kind in list_sent_types() if kind is not OrderCreated]
    assert (
        find_violations(
            [*others, change_message(OrderCreated, coupon=(str | None, None), number=3)], list_stored_types()
        )
        == []
    )


def test_a_message_that_vanishes_is_missed() -> None:
    found = find_violations([kind for kind in list_sent_types() if kind is not OrderCreated], list_stored_types())
    assert "orders.OrderCreated: no class reads this type any more" in found[0]


def test_a_stored_event_may_change_with_its_version_because_an_upcast_follows() -> None:
    kind = next(kind for kind in list_stored_types() if kind.type == "orders.PaymentFailed")
    others = [other for other in list_stored_types() if other is not kind]
    assert (
        find_violations(
            list_sent_types(), [*others, change_message(kind, without=("reason",), why=(str, ...), number=2)]
        )
        == []
    )
    assert (
        find_violations(list_sent_types(), [*others, change_message(kind, without=("reason",), why=(str, ...))]) != []
    )


def test_make_docs_does_not_write_over_a_published_version(monkeypatch: pytest.MonkeyPatch) -> None:
    narrowed = [
        change_message(OrderCreated, without=("email",), number=2),
        *(kind for kind in list_sent_types() if kind is not OrderCreated),
    ]
    monkeypatch.setattr(generate_docs, "list_sent_types", lambda: narrowed)
    before = message_schemas.get_schema_path(OrderCreated).read_bytes()
    with pytest.raises(SystemExit, match=r"nothing was written:\n- orders.OrderCreated v2: field `email` was removed"):
        generate_docs.main()
    assert message_schemas.get_schema_path(OrderCreated).read_bytes() == before


def test_a_hole_in_the_published_versions_is_noticed(tmp_path: Path) -> None:
    for number in (1, 3):
        (tmp_path / f"{Placed.type}.v{number}.json").write_bytes(orjson.dumps(build_schema(Placed)))
    assert "version 2 is missing" in find_violations([change_message(number=3)], folder=tmp_path)[0]


def test_a_version_that_told_too_much_is_neither_sent_nor_published_again(tmp_path: Path) -> None:
    old = change_message(OrderCreated, payment_token=(str, ...), number=1)
    for number in (1, 2):
        (tmp_path / f"{OrderCreated.type}.v{number}.json").write_bytes(orjson.dumps(build_schema(old)))
    assert "version 1 was withdrawn" in find_violations([OrderCreated], folder=tmp_path)[0]
    (tmp_path / f"{OrderCreated.type}.v1.json").unlink()
    (tmp_path / f"{OrderCreated.type}.v2.json").unlink()
    assert "version 1 was withdrawn" in find_violations([old], folder=tmp_path)[0]
    assert find_violations([OrderCreated], folder=tmp_path) == []


def test_no_published_message_but_what_payments_is_told_has_a_field_for_a_payment_token() -> None:
    holding = {kind.type for kind in list_sent_types() for name in build_schema(kind)["properties"] if "token" in name}
    assert {name for name in holding if "ayment" in name or name.startswith("orders.")} == {"payments.ExpectPayment"}
