"""What recommendations answers to other services."""

from uuid import UUID

from pydantic import BaseModel, Field

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


class UsersRequest(BaseModel):
    """For mails: so many items for each of these users."""

    user_ids: list[UUID] = Field(max_length=200)
    limit: int = Field(5, ge=1, le=20)


class UsersRecommendations(BaseModel):
    """Nothing that is sold out or not sold any more. A user without any is left out."""

    by_user: dict[UUID, list[Recommendation]]


LIST_FOR_USERS = Operation("recommendations", "for_users", UsersRequest, UsersRecommendations, seconds=10.0)
LIST_RECOMMENDATIONS = Operation(
    "recommendations", "for_user", RecommendationsRequest, Recommendations, owner="user_id"
)
