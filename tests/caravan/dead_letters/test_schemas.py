"""A selection names exactly one thing, and what is sent between processes about dead letters comes back as it was."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from caravan.dead_letters.schemas import (
    DiscardRequest,
    Selection,
    build_discard_operation,
    build_list_operation,
    build_redrive_operation,
    build_show_operation,
)

SELECTORS: dict[str, Any] = {"cause": "3f9a1c0b77de", "ids": ["a"], "subscription": "orders.order-created"}


@given(st.sets(st.sampled_from(sorted(SELECTORS))), st.booleans())
def test_a_selection_names_exactly_one_thing(names: set[str], dry_run: bool) -> None:
    fields = {**{name: SELECTORS[name] for name in names}, "dry_run": dry_run}
    if len(names) == 1:
        selection = Selection.model_validate(fields)
        assert selection.model_dump(exclude_none=True) == fields
        assert Selection.model_validate_json(selection.model_dump_json()) == selection
    else:
        with pytest.raises(ValidationError, match="give exactly one of cause, ids and subscription"):
            Selection.model_validate(fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"cause": ""},
        {"cause": "x" * 65},
        {"ids": []},
        {"ids": [""]},
        {"ids": ["x" * 501]},
        {"ids": [str(number) for number in range(501)]},
        {"subscription": "x" * 201},
        {"cause": "a", "all": True},
        {"cause": "a", "failed_before": "yesterday"},
        {"cause": "a", "failed_before": "2026-11-29T12:00:00"},
    ],
)
def test_what_is_out_of_bounds_or_unknown_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Selection.model_validate(fields)


@pytest.mark.parametrize("reason", [None, "", "no", "x" * 501, "two\nlines", "hidden \u202e text"])
def test_a_discard_has_a_reason_that_can_be_read(reason: str | None) -> None:
    assert DiscardRequest(ids=["a"], reason="a test order").reason == "a test order"
    with pytest.raises(ValidationError, match="reason"):
        DiscardRequest.model_validate({"ids": ["a"], **({} if reason is None else {"reason": reason})})


def test_what_changes_something_is_not_sent_twice_by_itself() -> None:
    assert build_list_operation("orders").is_repeatable
    assert build_show_operation("orders").is_repeatable
    assert not build_redrive_operation("orders").is_repeatable
    assert not build_discard_operation("orders").is_repeatable
