"""What attributes may be, and which changes count."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.money import Money
from services.catalog import model
from services.catalog.model import Category, Product

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FREE = Category("anything")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def rule(kind: str, required: bool = False, choices: list[str] | None = None) -> dict[str, Any]:
    return {"type": kind, "required": required, "choices": choices}


KETTLES = Category(
    "kettles",
    {
        "volume_ml": rule("integer", required=True),
        "colour": rule("string", choices=["red", "blue"]),
        "tags": rule("strings"),
    },
    free=False,
)


@given(st.dictionaries(st.from_regex(r"\A[a-z][a-z0-9_]{0,8}\Z"), JSON, max_size=5))
def test_whatever_passes_can_be_stored_and_comes_back_equal(attributes: dict[str, Any]) -> None:
    if not model.check_attributes(attributes, FREE):
        stored = orjson.dumps(attributes)
        assert b"\\u0000" not in stored
        assert orjson.loads(stored) == attributes


@pytest.mark.parametrize(
    ("attributes", "wrong"),
    [
        ({"volume_ml": 900}, []),
        ({"volume_ml": 900, "colour": "red", "tags": ["new", "steel"]}, []),
        ({}, ["attributes.volume_ml"]),
        ({"volume_ml": True}, ["attributes.volume_ml"]),
        ({"volume_ml": 900.5}, ["attributes.volume_ml"]),
        ({"volume_ml": 900, "colour": "green"}, ["attributes.colour"]),
        ({"volume_ml": 900, "tags": ["new", 1]}, ["attributes.tags"]),
        ({"volume_ml": 900, "wattage": 2000}, ["attributes.wattage"]),
    ],
)
def test_a_declared_category_takes_what_it_declares_and_nothing_else(
    attributes: dict[str, Any], wrong: list[str]
) -> None:
    assert [error["field"] for error in model.check_attributes(attributes, KETTLES)] == wrong


@pytest.mark.parametrize(
    "value", ["a\x00b", {"\x00": 1}, float("nan"), float("inf"), 10**16, "\ud800", [[[[[["deep"]]]]]], "x" * 20_000]
)
def test_what_cannot_be_stored_is_named(value: Any) -> None:
    assert model.check_attributes({"x": value}, FREE)


def test_a_change_counts_only_when_something_differs() -> None:
    product = Product("MUG", "Mug", "", "kitchen", Money(amount=5, currency="GBP"), {"n": 1}, True, 3, NOW, NOW)
    assert product.apply_changes(NOW, name="Mug", attributes={"n": 1}) is product
    assert product.apply_changes(NOW, attributes={"n": True}).version == 4


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("blue mu", "'blue':* & 'mu':*"),
        ('"blue mug"', None),
        ("mug -blue", None),
        ("mug or cup", None),
        ("!&|", None),
        ("o'hara", "'o':* & 'hara':*"),
    ],
)
def test_plain_words_find_beginnings_and_operators_stay_operators(text: str, query: str | None) -> None:
    assert model.build_prefix_query(text) == query
