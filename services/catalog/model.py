"""The rules of products: what changes do, which attributes a product may have, and which changes are reported to
watchers.

Attributes are a JSON document of limited size. A declared category limits them further: declared attributes must have
their type, required ones must be there, and others are refused unless the category is `free`. Products of a category
that is not declared are free. Rules are checked when a product is written; a later declaration does not touch existing
products.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import orjson

from caravan.money import Money
from caravan.text import is_readable
from services.catalog.messages import ProductUpdated

MAX_BYTES = 16 * 1024
MAX_DEPTH = 5
MAX_NUMBER = 10**15

FieldError = dict[str, str]


@dataclass(frozen=True, slots=True)
class Product:
    sku: str
    name: str
    description: str
    category: str
    price: Money
    attributes: dict[str, Any]
    active: bool
    version: int
    created_at: datetime
    updated_at: datetime

    def apply_changes(self, now: datetime, **values: Any) -> "Product":
        """The next version with these values; the same object when nothing differs."""
        after = replace(self, **values)
        if after == self and _to_canonical_json(after.attributes) == _to_canonical_json(self.attributes):
            return self
        return replace(after, version=self.version + 1, updated_at=now)


def _to_canonical_json(attributes: dict[str, Any]) -> bytes:
    """Tells 1 from true, which Python's equality does not."""
    return orjson.dumps(attributes, option=orjson.OPT_SORT_KEYS)


def build_product_updated(before: Product | None, after: Product) -> ProductUpdated:
    return ProductUpdated(
        sku=after.sku,
        product_version=after.version,
        name=after.name,
        description=after.description,
        category=after.category,
        price=after.price,
        previous_price=before.price if before else None,
        attributes=after.attributes,
        active=after.active,
    )


def has_price_changed(before: Product | None, after: Product) -> bool:
    return before is not None and before.price != after.price


def list_changed_fields(before: Product, after: Product) -> list[str]:
    """The fields that tell people something else now, but for the price."""
    fields = [name for name in ("name", "description", "category") if getattr(before, name) != getattr(after, name)]
    return fields + (
        ["attributes"] if _to_canonical_json(before.attributes) != _to_canonical_json(after.attributes) else []
    )


def can_cost_less(before: Product | None, after: Product) -> bool:
    """Whether a product for sale may now cost less than when somebody began to watch it, which may have been long
    before this change.
    """
    return before is not None and after.active and (before.price != after.price or not before.active)


@dataclass(frozen=True, slots=True)
class Category:
    """`attributes` by name: `{"type": ..., "required": ..., "choices": [...] | None}`."""

    name: str
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    free: bool = True


_TYPE_CHECKS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in (int, float),
    "boolean": lambda value: isinstance(value, bool),
    "strings": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
}


def check_attributes(attributes: Mapping[str, Any], category: Category) -> list[FieldError]:
    """What is wrong with a product's attributes, by field; empty when nothing is."""
    errors = [error for name, value in attributes.items() for error in _check_limits(f"attributes.{name}", value, 1)]
    if errors:
        return errors
    size = len(orjson.dumps(attributes))
    if size > MAX_BYTES:
        return [{"field": "attributes", "rule": f"{size} bytes; at most {MAX_BYTES} are taken"}]
    for name, rule in category.attributes.items():
        if name not in attributes:
            if rule["required"]:
                errors.append({"field": f"attributes.{name}", "rule": f"required in category {category.name}"})
        elif not _TYPE_CHECKS[rule["type"]](attributes[name]):
            errors.append(
                {"field": f"attributes.{name}", "rule": f"must be of type {rule['type']} in category {category.name}"}
            )
        elif rule["choices"] is not None and not set(_to_list(attributes[name])) <= set(rule["choices"]):
            errors.append({"field": f"attributes.{name}", "rule": f"must be one of {', '.join(rule['choices'][:20])}"})
    if not category.free:
        errors += [
            {"field": f"attributes.{name}", "rule": f"not declared in category {category.name}"}
            for name in attributes
            if name not in category.attributes
        ]
    return errors


def _to_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _check_limits(path: str, value: Any, depth: int) -> list[FieldError]:
    """What the database could not hold, or nobody could read."""
    if depth > MAX_DEPTH:
        return [{"field": path, "rule": f"nested more than {MAX_DEPTH} deep"}]
    match value:
        case list():
            return [
                error for index, item in enumerate(value) for error in _check_limits(f"{path}.{index}", item, depth + 1)
            ]
        case dict() if all(is_storable(name) for name in value):
            return [error for name, item in value.items() for error in _check_limits(f"{path}.{name}", item, depth + 1)]
    rule = _find_broken_rule(value)
    return [{"field": path, "rule": rule}] if rule else []


def _find_broken_rule(value: Any) -> str:
    """Of a value that holds no other, or names that can't be stored."""
    match value:
        case str():
            fits = is_storable(value) and is_readable(value)
            return "" if fits else "must not hold control or invisible characters"
        case bool() | None:
            return ""
        case int() | float():
            fits = math.isfinite(value) and abs(value) <= MAX_NUMBER
            return "" if fits else f"must be a number between -{MAX_NUMBER} and {MAX_NUMBER}"
        case dict():
            return "a name in it holds a character that can't be stored"
    return "not JSON"


def is_storable(text: str) -> bool:
    """Postgres takes neither NUL nor half a surrogate pair."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def parse_filter_values(text: str) -> list[Any]:
    """What `?attr.x=text` may mean in a document: the text, and the number or truth value that it spells."""
    values: list[Any] = [text]
    if re.fullmatch(r"-?[0-9]{1,15}", text):
        values.append(int(text))
    elif re.fullmatch(r"-?[0-9]{1,12}\.[0-9]{1,9}", text):
        values.append(float(text))
    elif text in ("true", "false"):
        values.append(text == "true")
    return values


_VARIANTS = str.maketrans(
    dict(zip("łŁøØđĐðÐħĦŧŦıς", "lLoOdDdDhHtTiσ", strict=True))
    | {"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "þ": "th", "Þ": "TH"}
)
_ACCENTS = re.compile(r"[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u065f\u0670]+")
"""Of Latin, Greek and Cyrillic letters, and the signs of vowels in Hebrew and Arabic, which people write for children
and poems only.
"""


def fold_accents(text: str) -> str:
    """A text without accents and variants of letters: people search for what their keyboard has. The database's
    `folded` does the same with products.
    """
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFKD", text.translate(_VARIANTS))))


MAX_NEGATIONS = 16


def sanitize_search(text: str) -> str:
    """A search as the database's parser is given it: words, `"phrases"`, `or`, and a minus where it means *not*, which
    is before a word. The parser keeps each minus that it has not yet applied on a small stack, and fails when that is
    full, so there are few of them; its other operators are spaces.
    """
    remaining = MAX_NEGATIONS

    def limit_negations(minus: re.Match[str]) -> str:
        nonlocal remaining
        remaining -= 1
        return "-" if remaining >= 0 else " "

    words = re.sub(r"[!&|()<>:*\\]", " ", text)
    words = re.sub(r"(?<!\w)-(?![\w\"])|(?<=[^\w\s])-|(?<=\w)-(?!\w)", " ", words)
    return re.sub(r"(?<!\w)-", limit_negations, words)


def build_prefix_query(text: str) -> str | None:
    """A full text query for words that begin like those of the text; None when the text has operators of its own
    (quotes, minus, or).
    """
    words = re.findall(r"\w+", text)
    if not words or '"' in text or re.search(r"(?:^|\s)-", text) or "or" in (word.lower() for word in words):
        return None
    return " & ".join(f"'{word}':*" for word in words)
