"""What people write is readable text: no field of any request takes characters that steer a terminal, turn text around,
or can't be seen.
"""

import importlib
import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Annotated, Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from caravan.text import TextLine, TextParagraphs
from services.registry import SERVICES

LINE: TypeAdapter[str] = TypeAdapter(Annotated[str, TextLine(50)])
PARAGRAPHS: TypeAdapter[str] = TypeAdapter(Annotated[str, TextParagraphs(50)])
MADE_ELSEWHERE = ("password", "token", "time_zone", "cron")
"""Secrets are kept as they are and shown to nobody; the others have parsers of their own."""


def _string_fields() -> Iterator[tuple[str, Any]]:
    """Each field of a request body that takes texts, as its name and what reads it."""
    for service in SERVICES:
        try:
            module = importlib.import_module(f"services.{service}.schemas")
        except ModuleNotFoundError:
            continue
        for model in vars(module).values():
            if (
                not (isinstance(model, type) and issubclass(model, BaseModel))
                or model.model_config.get("extra") != "forbid"
            ):
                continue
            for name, field in model.model_fields.items():
                if not any(word in name for word in MADE_ELSEWHERE) and str in (
                    field.annotation,
                    *get_args(field.annotation),
                ):
                    annotated: Any = Annotated[field.annotation, field]
                    yield f"{service}.{model.__name__}.{name}", TypeAdapter(annotated)


FIELDS = dict(_string_fields())


@pytest.mark.parametrize(
    "text",
    [
        "a\x1b[2Jb",
        "a\x9bb",
        "a\x00b",
        "a\u202eb",
        "a\u2066b",
        "a\u2028b",
        "a\ufeffb",
        "a\U000e0041b",
        "\u200d\u3164",
        "\u00a0 ",
    ],
)
@pytest.mark.parametrize("field", FIELDS)
def test_no_text_of_a_request_holds_what_can_not_be_read(field: str, text: str) -> None:
    if text.strip() == "" and FIELDS[field].json_schema().get("minLength") is None:
        pytest.skip("it may be empty, and is")
    with pytest.raises(ValidationError):
        FIELDS[field].validate_python(text)


def test_there_are_such_fields() -> None:
    assert {
        "identity.Registration.name",
        "orders.ShippingAddress.street",
        "orders.CancelRequest.reason",
        "catalog.ProductRequest.name",
    } <= set(FIELDS)


@given(st.text(max_size=50))
def test_what_is_taken_is_plain_and_stays_as_it_is(text: str) -> None:
    for adapter in (LINE, PARAGRAPHS):
        pattern = re.compile(json.loads(json.dumps(adapter.json_schema()["pattern"])).replace("$", r"\Z"))
        try:
            taken = adapter.validate_python(text)
        except ValidationError:
            continue
        assert pattern.match(text)
        assert len(taken) <= 50
        assert adapter.validate_python(taken) == taken == taken.strip() == unicodedata.normalize("NFC", taken)
        assert not any(unicodedata.category(sign) in ("Cc", "Cs") and sign not in "\n\t" for sign in taken)
        assert any(unicodedata.category(sign)[0] in "LMNPSC" for sign in taken)


@pytest.mark.parametrize(
    "name",
    ["Ada", "José", "李小龍", "سارة علی\u200cپور", "क्\u200dष", "Zoë 👩\u200d🚀", "O’Brien-Smith", "Łukasz", "x" * 50],
)
def test_names_of_all_scripts_are_taken(name: str) -> None:
    assert LINE.validate_python(name) == unicodedata.normalize("NFC", name)


def test_a_decomposed_letter_becomes_one() -> None:
    assert LINE.validate_python("Jose\u0301") == "José"


def test_line_breaks_are_for_paragraphs() -> None:
    assert PARAGRAPHS.validate_python("a\r\nb\tc") == "a\nb\tc"
    with pytest.raises(ValidationError):
        LINE.validate_python("a\nb")
