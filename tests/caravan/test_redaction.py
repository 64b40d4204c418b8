"""No secret is shown, wherever it stands, and looking for it takes time in proportion to the text."""

import logging
import string
import time

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from caravan.dead_letters.causes import compute_cause, redact_payload
from caravan.redaction import MASKED, SECRET_NAMES, redact_text, redact_value
from caravan.telemetry import configure_logs

SECRET = "S3CR3T-value"
words = st.text(string.ascii_lowercase + " :", min_size=1, max_size=30)


@given(
    st.recursive(
        st.one_of(st.just(SECRET), st.integers(0, 2**40), st.booleans(), st.none()),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
        max_leaves=10,
    ),
    st.sampled_from(SECRET_NAMES),
    st.sampled_from(["hidden-value", ["hidden-value"], {"number": "hidden-value"}]),
)
def test_a_secret_field_is_masked_at_any_depth_with_all_that_it_holds(rest: object, name: str, value: object) -> None:
    shown = orjson.dumps(redact_value({"data": [{"x": {f"new_{name}": value}}], "rest": rest})).decode()
    assert "hidden-value" not in shown
    assert MASKED in shown


@pytest.mark.parametrize(
    "text",
    [
        f'{{"password": "{SECRET}", "broken',
        f"https://shop/reset?token={SECRET}&x=1",
        f"Authorization: Bearer {SECRET}",
        f"secret='{SECRET}'",
        f'"card_number" : "{SECRET}',
        f'"{{\\"password\\": \\"two words and {SECRET}\\", \\"a\\": 1}}"',
        f"token=first token={SECRET} password: {SECRET}",
    ],
)
def test_a_secret_in_a_text_is_masked(text: str) -> None:
    assert SECRET not in redact_text(text)


@pytest.mark.parametrize(
    "part",
    [
        "token",
        "token-",
        "token ",
        "token=",
        'token="',
        "token\\",
        "Bearer ",
        "0a",
        "1.",
        "2026-01-01T",
        " ",
        "card: '",
        "-",
    ],
)
def test_a_long_text_of_any_shape_is_looked_through_at_once(part: str) -> None:
    """A pattern that tries a text again from each of its places needs minutes here."""
    text = part * (200_000 // len(part))
    began = time.process_time()
    redact_text(text)
    redact_payload(text.encode(), len(text))
    compute_cause(text)
    assert time.process_time() - began < 2.0


def test_a_value_of_a_thousand_levels_is_shown_to_its_bound() -> None:
    nested = orjson.loads(b'{"a":' * 1000 + b"1" + b"}" * 1000)
    assert MASKED in orjson.dumps(redact_value(nested)).decode()
    assert MASKED in str(redact_payload(b"[" * 1000 + b"]" * 1000, 2000))


def test_logs_show_no_secret_in_fields_texts_and_exceptions(capfd: pytest.CaptureFixture[str]) -> None:
    before, handlers = structlog.get_config(), logging.getLogger().handlers[:]
    try:
        configure_logs("INFO", "json")
        log = structlog.get_logger("redaction")  # the shared one may be bound to the settings of another test
        log.info(
            "called",
            reset_link=f"https://shop/{SECRET}",
            error=f"GET /x?access_token={SECRET}",
            payload={"card": {"no": SECRET}},
        )
        try:
            raise ValueError(f"password={SECRET}")
        except ValueError:
            log.exception("failed")
    finally:
        structlog.configure(**before)
        logging.getLogger().handlers[:] = handlers
    stderr = capfd.readouterr().err
    assert "failed" in stderr
    assert "called" in stderr
    assert SECRET not in stderr
