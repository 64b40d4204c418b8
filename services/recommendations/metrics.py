"""The metrics that recommendations keeps."""

from prometheus_client import Counter

LISTS_COMPUTED = Counter(
    "caravan_recommendations_computed_total", "Lists computed from the tables, not found in the cache"
)
