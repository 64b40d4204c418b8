"""What must be looked up for a search: the database's own reading of it (a `tsquery`) as alternatives, each of which is
a list of words that a product must have, or must not have.

It may say less than the query does (a phrase is its words), never more, so that whoever reads by it still compares each
product with the query.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

MAX_ALTERNATIVES = 64
INDEXED_BEGINNING = 3
"""Words have the entries of their beginnings of so many letters (`product_words` in tables/product_words.py)."""
_TOKEN = re.compile(r"'((?:[^'\\]|''|\\\\)*)'(:\*?[A-D]*)?|([&|!()])|<(?:-|\d+)>|\s+")
_PLAIN = re.compile(r"\s*[^\W_]+(?:\s+[^\W_]+)*\s*")
_BEHIND_ALL = "\U0010ffff"
_BEHIND = "\x01"


class Term(NamedTuple):
    word: str
    is_beginning: bool = False
    excluded: bool = False


Alternatives = list[tuple[Term, ...]]


class _Reading(NamedTuple):
    """`is_exact`: whether the alternatives say all that the query does, so that their opposite can be told."""

    alternatives: Alternatives
    is_exact: bool


def parse_query(text: str) -> Alternatives:
    """Of a `tsquery` as Postgres writes it; none for one that finds nothing."""
    tokens = list(_tokenize(text))
    if not tokens:
        return []
    return _drop_covered(_Parser(tokens).parse_or().alternatives)


def is_plain(text: str) -> bool:
    """Whether the text is words only, all of which a product must have: those of `to_tsvector`."""
    return _PLAIN.fullmatch(text) is not None and "or" not in text.lower().split()


def list_ranges(term: Term) -> list[tuple[str, str]]:
    """The entries of the table of words that are a term's: from the first up to, and without, the second."""
    word = term.word
    by_sku = [(f"#{word}", f"#{word}{_BEHIND}")] if re.search("[0-9]", word) else []
    if not term.is_beginning:
        return [(word, word + _BEHIND), *by_sku]
    if len(word) <= INDEXED_BEGINNING:
        return [(f"^{word}", f"^{word}{_BEHIND}"), *by_sku]
    return [(word, word + _BEHIND_ALL), *by_sku]


def _tokenize(text: str) -> Iterator[Term | str]:
    for match in _TOKEN.finditer(text):
        if match[1] is not None:
            word = match[1].replace("''", "'").replace("\\\\", "\\")
            yield Term(word, is_beginning=(match[2] or "").startswith(":*"))
        elif match[3] is not None:
            yield match[3]
        elif match[0].startswith("<"):
            yield "<>"


class _Parser:
    """By recursive descent, the loosest operator first."""

    def __init__(self, tokens: list[Term | str]) -> None:
        self._tokens = tokens
        self._index = 0

    def parse_or(self) -> _Reading:
        reading = self._parse_and()
        while self._take("|"):
            other = self._parse_and()
            reading = _Reading(reading.alternatives + other.alternatives, reading.is_exact and other.is_exact)
        return reading

    def _parse_and(self) -> _Reading:
        reading = self._parse_phrase()
        while self._take("&"):
            reading = _combine(reading, self._parse_phrase())
        return reading

    def _parse_phrase(self) -> _Reading:
        reading = self._parse_not()
        while self._take("<>"):
            reading = _Reading(_combine(reading, self._parse_not()).alternatives, is_exact=False)
        return reading

    def _parse_not(self) -> _Reading:
        if not self._take("!"):
            return self._parse_operand()
        reading = self._parse_not()
        match reading:
            case _Reading([(term,)], True):
                return _Reading([(term._replace(excluded=not term.excluded),)], is_exact=True)
        return _Reading([()], is_exact=False)

    def _parse_operand(self) -> _Reading:
        token = self._tokens[self._index]
        self._index += 1
        if isinstance(token, Term):
            return _Reading([(token,)], is_exact=True)
        reading = self.parse_or()
        self._take(")")
        return reading

    def _take(self, operator: str) -> bool:
        found = self._index < len(self._tokens) and self._tokens[self._index] == operator
        self._index += found
        return found


def _combine(one: _Reading, other: _Reading) -> _Reading:
    if len(one.alternatives) * len(other.alternatives) > MAX_ALTERNATIVES:
        return _Reading(one.alternatives, is_exact=False)
    joined = [tuple(dict.fromkeys(left + right)) for left in one.alternatives for right in other.alternatives]
    return _Reading(joined, one.is_exact and other.is_exact)


def _drop_covered(alternatives: Alternatives) -> Alternatives:
    """Without those that find nothing which another one doesn't find: whole words beside the beginnings of the same
    words.
    """
    kept: Alternatives = []
    for index, terms in enumerate(alternatives):
        others = alternatives[index + 1 :] + kept
        if not any(_is_covered(terms, other) for other in others):
            kept.append(terms)
    return kept


def _is_covered(terms: tuple[Term, ...], other: tuple[Term, ...]) -> bool:
    return all(
        any(
            term == wider or (wider.is_beginning and not term.excluded and term.word.startswith(wider.word))
            for term in terms
        )
        for wider in other
    )
