"""How long a loop that works on batches rests between two of them."""

REST_FACTOR = 2
MAX_REST_SECONDS = 0.1


def compute_rest(linger: float, took: float) -> float:
    """Seconds to rest after a batch that took so long and was not full, so that batches begin at least `linger` apart.

    The busier the machine, the longer a batch takes, and the longer the rest: what comes in meanwhile is one larger
    batch instead of many, and costs less. A batch that is done quickly is followed by the next one as early as ever.
    With a `linger` of 0 there is no rest.
    """
    if not linger:
        return 0.0
    return max(linger - took, min(REST_FACTOR * took, MAX_REST_SECONDS))
