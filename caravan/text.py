"""The types of every text field that a person fills in and others read: in terminals, mails, invoices and logs.

Control characters steer terminals and break headers, bidirectional controls make a text read otherwise than it is
stored, and text of invisible characters alone names nobody: they are refused where a request is parsed, so that nothing
after it has to consider them. What is accepted is trimmed and NFC-normalised, once. Joiners and variation selectors
stay: Persian, the scripts of India and emoji are written with them.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

WITHOUT_CONTROLS: Final = r"^[^\x00-\x1f\x7f-\x9f]+$"
"""Of what is compared to the letter and not read by people: passwords, ids. Not every way to sign in, no header and no
database carries control characters.
"""
_LINE_ENDS: Final = r"\t\n\r"
_CONTROL: Final = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
_UNREADABLE: Final = (
    r"\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffc\ufffe\uffff"
    "\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
"""Bidirectional controls, line and paragraph separators, tags, and signs without width that no script needs."""
_INVISIBLE: Final = (
    r"\s\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200c\u200d\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U0001d159\U000e0100-\U000e01ef"
)
"""Spaces of all widths, joiners, fillers and selectors: fine within a text, but not a text."""

_LINE: Final = f"[^{_LINE_ENDS}{_CONTROL}{_UNREADABLE}]"
_PARAGRAPH: Final = f"[^{_CONTROL}{_UNREADABLE}]"
_VISIBLE: Final = f"[^{_INVISIBLE}{_CONTROL}{_UNREADABLE}]"
"""Written for Python and for JSON Schema alike: the published pattern is the rule that is applied."""

_find_visible: Final = re.compile(_VISIBLE).search


_find_unreadable: Final = re.compile(f"[{_UNREADABLE}]")
_find_spaces: Final = re.compile(f"[\\s{_LINE_ENDS}{_CONTROL}]+")


def clean_line(text: str, max_length: int) -> str:
    """A line that `Line(most)` takes, of a text whose author can't be asked to write it anew; empty when there is
    nothing to see in it.
    """
    plain = unicodedata.normalize("NFC", _find_spaces.sub(" ", _find_unreadable.sub("", text)))[:max_length].strip()
    return plain if _find_visible(plain) else ""


class BrokenRule(ValueError):
    """A rule about several fields together. `field` is where the reader finds what to change: a path below the model
    that raises it.
    """

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(rule)
        self.field = field
        self.rule = rule


@dataclass(frozen=True, slots=True)
class _ForeignText:
    max_length: int
    min_length: int = 1

    _allowed: ClassVar[str]
    _forbidden: ClassVar[re.Pattern[str]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        plain = core_schema.str_schema(min_length=self.min_length or None, max_length=self.max_length)
        return core_schema.no_info_after_validator_function(self.normalize_text, plain)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        visible = f"{self._allowed}*{_VISIBLE}{self._allowed}*"
        return {**handler(schema), "pattern": f"^{visible}$" if self.min_length else f"^({visible})?$"}

    def normalize_text(self, text: str) -> str:
        """The text as it is kept. Raises ValueError with the rule that it breaks."""
        if not (text.isascii() and text.isprintable()):
            match = self._forbidden.search(text)
            if match is not None:
                position = f"U+{ord(match[0]):04X} stands at {match.start()}"
                raise ValueError(f"must not hold control, bidirectional or invisible characters: {position}")
            text = unicodedata.normalize("NFC", text)
            if len(text) > self.max_length:
                raise ValueError(f"must have at most {self.max_length} characters in Unicode's normal form NFC")
        text = text.strip()
        if _find_visible(text) is None and (text or self.min_length):
            raise ValueError("must have something to see in it, not spaces or invisible characters alone")
        return text


class TextLine(_ForeignText):
    """`Annotated[str, Line(100)]`: one line of text with something to see in it, at most so many characters."""

    _allowed = _LINE
    _forbidden = re.compile(_LINE.replace("[^", "[", 1))


class TextParagraphs(_ForeignText):
    """`Annotated[str, Paragraphs(5000)]`: text with line breaks and tabs."""

    _allowed = _PARAGRAPH
    _forbidden = re.compile(_PARAGRAPH.replace("[^", "[", 1))

    def normalize_text(self, text: str) -> str:
        return _ForeignText.normalize_text(self, text).replace("\r\n", "\n").replace("\r", "\n")


def is_readable(text: str) -> bool:
    """Whether a text that may be empty and has line breaks holds no control, bidirectional or invisible characters."""
    return TextParagraphs._forbidden.search(text) is None
