"""The rest between two batches."""

from hypothesis import given
from hypothesis import strategies as st

from caravan.pacing import MAX_REST_SECONDS, compute_rest

seconds = st.floats(0, 10)


@given(linger=seconds.filter(bool), took=seconds)
def test_batches_begin_at_least_the_linger_apart_and_a_rest_grows_with_what_a_batch_takes_up_to_a_bound(
    linger: float, took: float
) -> None:
    rest = compute_rest(linger, took)
    assert rest >= 0
    assert took + rest >= linger - 1e-9
    assert rest <= max(linger, MAX_REST_SECONDS)
    assert rest <= compute_rest(linger, took + 1) or rest <= linger


def test_under_load_batches_grow_and_a_quick_one_is_followed_as_early_as_ever() -> None:
    assert compute_rest(0.05, 0.002) == 0.048
    assert compute_rest(0.05, 0.04) == 0.08
    assert compute_rest(0.05, 5) == MAX_REST_SECONDS


@given(took=seconds)
def test_who_asks_for_no_rest_gets_none(took: float) -> None:
    assert compute_rest(0, took) == 0
