"""Shapes that several services share."""

import pytest
from pydantic import ValidationError

from caravan.schemas import Page, StrictModel


class Body(StrictModel):
    count: int


@pytest.mark.parametrize("body", [{"count": "1"}, {"count": 1.0}, {"count": 1, "more": 2}, {}])
def test_a_body_is_taken_as_it_is_or_not_at_all(body: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Body.model_validate(body)


def test_the_last_page_has_no_cursor() -> None:
    assert Page[int](items=[1]).model_dump() == {"items": [1], "next_cursor": None}
