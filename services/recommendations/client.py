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
    support: float | None = None
    """`bought_together`: the share of all orders with both, `because` and this one."""
    confidence: float | None = None
    """`bought_together`: of the orders with `because`, the share with this one, too."""
    lift: float | None = None
    """`bought_together`: so many times more often than if the two had nothing to do with each other."""


class Recommendations(BaseModel):
    items: list[Recommendation]


LIST_RECOMMENDATIONS = Operation(
    "recommendations", "for_user", RecommendationsRequest, Recommendations, owner="user_id"
)
