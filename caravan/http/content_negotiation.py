"""Chooses the content type that a client prefers, by its header `Accept` (RFC 9110 §12.5.1)."""

import re

_WEIGHT = re.compile(r"q\s*=\s*([01](?:\.\d{0,3})?)")


def choose_content_type(accept: str, *content_types: str) -> str:
    """The offered content type of the greatest weight; of two alike the first. Nothing acceptable: the first, too,
    which tells more than a refusal.
    """
    ranges = [_parse_range(part) for part in accept.lower().split(",")[:50] if part.strip()]
    weights = {content_type: _find_weight(content_type, ranges) for content_type in content_types}
    return max(content_types, key=lambda kind: weights[kind]) if ranges else content_types[0]


def _parse_range(part: str) -> tuple[str, float]:
    media_range, *parameters = (piece.strip() for piece in part.split(";"))
    weights = [float(match[1]) for parameter in parameters if (match := _WEIGHT.fullmatch(parameter))]
    return media_range, min(weights[0], 1.0) if weights else 1.0


def _find_weight(content_type: str, ranges: list[tuple[str, float]]) -> float:
    """By the range that says most about it."""
    for candidate in (content_type, content_type.partition("/")[0] + "/*", "*/*"):
        for media_range, weight in ranges:
            if media_range == candidate:
                return weight
    return 0.0
