"""The HTTP entry point of recommendations."""

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response

from caravan.auth import Customer
from caravan.http import Injected, Limit, document_headers, make_json_response
from services.recommendations import use_cases
from services.recommendations.client import Recommendations
from services.recommendations.use_cases import RecommendationsContext

router = APIRouter(tags=["recommendations"])

Sku = Annotated[str, Path(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$", examples=["MUG"])]


@router.get(
    "/v1/recommendations",
    response_model=Recommendations,
    responses=document_headers(200, "X-Cache", description="the best first, each with the rule that fired"),
)
async def list_recommendations(
    context: Injected[RecommendationsContext], caller: Customer, limit: Limit = 10
) -> Response:
    """For you: what goes with what you bought, what you buy again and again, and what sells; only what is in stock."""
    body, is_cached = await use_cases.get_recommendations(context, caller.user_id, limit)
    return make_json_response(
        body, headers={"X-Cache": "hit" if is_cached else "miss", "Cache-Control": "private, no-store"}
    )


@router.get("/v1/products/{sku}/recommendations", response_model=Recommendations)
async def list_product_recommendations(
    context: Injected[RecommendationsContext], sku: Sku, limit: Limit = 10
) -> Response:
    """What is bought together with a product, then what is popular in its category; only what is in stock."""
    return make_json_response(await use_cases.recommend_for_product(context, sku, limit))
