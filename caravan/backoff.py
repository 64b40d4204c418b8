"""How long to wait before something that failed is tried again."""

import random

BACKOFF_SECONDS = (0.05, 0.2, 1.0, 3.0)


def compute_backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row, for a loop that never gives up."""
    return BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS)) - 1]


def compute_exponential_backoff(retries: int, first: float, limit: float = float("inf")) -> float:
    """Seconds before a retry: `first`, doubled for each of the `retries` made already, at most `limit`."""
    return min(first * 2.0 ** min(retries, 64), limit)


def add_jitter(seconds: float) -> float:
    """Half to one and a half of it, so that those who failed together don't come back together."""
    return seconds * random.uniform(0.5, 1.5)
