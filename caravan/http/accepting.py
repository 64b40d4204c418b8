"""What a client prefers of what there is, by its header `Accept` (RFC 9110 §12.5.1)."""

import re

_WEIGHT = re.compile(r"q\s*=\s*([01](?:\.\d{0,3})?)")


def preferred(accept: str, *offered: str) -> str:
    """The offered content type of the greatest weight; of two alike the first. Nothing acceptable: the first, too, which tells more than a refusal."""
    ranges = [_read(part) for part in accept.lower().split(",")[:50] if part.strip()]
    weights = {kind: _weight(kind, ranges) for kind in offered}
    return max(offered, key=lambda kind: weights[kind]) if ranges else offered[0]


def _read(part: str) -> tuple[str, float]:
    kind, *parameters = (piece.strip() for piece in part.split(";"))
    weights = [float(found[1]) for parameter in parameters if (found := _WEIGHT.fullmatch(parameter))]
    return kind, min(weights[0], 1.0) if weights else 1.0


def _weight(kind: str, ranges: list[tuple[str, float]]) -> float:
    """By the range that says most about it."""
    for wanted in (kind, kind.partition("/")[0] + "/*", "*/*"):
        for given, weight in ranges:
            if given == wanted:
                return weight
    return 0.0
