"""What recommendations answers to other services."""

from uuid import UUID

from pydantic import BaseModel

from caravan.client import Operation


class RecommendationsRequest(BaseModel):
    user_id: UUID
    limit: int = 10


class Recommendation(BaseModel):
    sku: str
    name: str
    rule: str
    """`bought_together`, `bought_again`, `popular_in_category` or `popular`."""
    because: str | None = None
    """The sku or category that the rule started from."""


class Recommendations(BaseModel):
    items: list[Recommendation]


LIST_RECOMMENDATIONS = Operation(
    "recommendations", "for_user", RecommendationsRequest, Recommendations, owner="user_id"
)
