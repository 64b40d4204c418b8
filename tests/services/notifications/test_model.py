"""The rules of notifications: by which channel a message goes, to whom it is not sent, and when it is tried again."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.clock import new_id
from caravan.errors import MessageRejected
from services.notifications.model import (
    KINDS,
    RETRY_SECONDS,
    NotificationKind,
    NotificationRequest,
    Preference,
    choose_channel,
    commandable_type,
    compute_retry_delay,
    validate_request,
)

EMAIL, PHONE = "ada@example.com", "+441632960961"
CATEGORIES = ("security", "transactional", "alerts", "promotions")
REQUESTS = st.builds(
    NotificationRequest,
    st.just("about"),
    st.sampled_from(sorted(KINDS.values(), key=lambda kind: kind.name)),
    st.just(new_id()),
    st.just(EMAIL),
    is_suppressed=st.booleans(),
)
PREFERENCES = st.builds(
    Preference,
    st.sampled_from(["email", "sms", "log"]),
    st.sampled_from([None, PHONE]),
    st.frozensets(st.sampled_from(CATEGORIES)),
)


@given(request=REQUESTS, preference=PREFERENCES)
def test_a_message_goes_where_its_kind_demands_or_its_user_prefers(
    request: NotificationRequest, preference: Preference
) -> None:
    choice = choose_channel(request, preference)
    demanded = request.kind.channel or preference.channel
    reachable = demanded if demanded != "sms" or preference.phone else "email"
    assert choice.channel == reachable, "without a number an SMS becomes a mail"
    assert choice.recipient == (PHONE if choice.channel == "sms" else EMAIL)


@given(request=REQUESTS, preference=PREFERENCES)
def test_only_what_was_opted_out_of_or_is_unsafe_is_suppressed_and_security_messages_never_by_the_user(
    request: NotificationRequest, preference: Preference
) -> None:
    is_opted_out = request.kind.category in preference.opt_out and request.kind.category != "security"
    expected = "suppressed" if is_opted_out or request.is_suppressed else "pending"
    assert choose_channel(request, preference).state == expected


def test_attempts_come_ever_more_rarely_and_end_after_about_a_day() -> None:
    delays = [compute_retry_delay(attempt) for attempt in range(1, len(RETRY_SECONDS) + 1)]
    assert delays == sorted(delays, key=lambda delay: delay or timedelta())
    assert timedelta(hours=20) < sum((delay for delay in delays if delay), timedelta()) < timedelta(hours=28)
    assert compute_retry_delay(len(RETRY_SECONDS) + 1) is None


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_a_command_may_ask_for_the_kinds_that_allow_it(kind: NotificationKind) -> None:
    if kind.is_commandable:
        assert commandable_type(kind.name) is kind
        return
    with pytest.raises(MessageRejected, match=kind.name):
        commandable_type(kind.name)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_a_message_without_one_of_its_values_is_refused_and_keeps_only_its_own(kind: NotificationKind) -> None:
    money = {"amount": 100, "currency": "GBP"}
    known = {
        name: money if name in ("total", "refunded", "price", "previous_price") else "x"
        for name in kind.required_values + kind.optional_values
    }
    request = NotificationRequest("about", kind, None, EMAIL, {**known, "something else": 1})
    assert validate_request(request).values == known
    for missing in kind.required_values:
        values = {name: value for name, value in known.items() if name != missing}
        with pytest.raises(MessageRejected, match=f"lacks {missing}"):
            validate_request(NotificationRequest("about", kind, None, EMAIL, values))
