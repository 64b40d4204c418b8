"""Recommend products to a user or beside a product."""

from datetime import timedelta
from uuid import UUID

from caravan.cache import Cache, CachedAnswer, Fill
from caravan.concurrency import map_concurrently
from caravan.database import Database
from caravan.errors import NotFound
from caravan.service import ServiceContext
from services.recommendations import model
from services.recommendations.caches import OFFERED_PRODUCTS, USER_ORDERS
from services.recommendations.client import (
    Recommendation,
    Recommendations,
    RecommendationsRequest,
    UsersRecommendations,
    UsersRequest,
)
from services.recommendations.metrics import LISTS_COMPUTED
from services.recommendations.model import Candidate, Taste
from services.recommendations.settings import Settings
from services.recommendations.store import candidates

RecommendationsContext = ServiceContext[Settings, Cache]

MAX_LIMIT = 100
USERS_AT_ONCE = 4
"""Of whom lists are computed at a time, for mails: the pages of the shop need connections, too."""


async def list_for_user(context: RecommendationsContext, request: RecommendationsRequest) -> Recommendations:
    answer = await get_recommendations(context, request.user_id, max(1, min(request.limit, MAX_LIMIT)))
    return Recommendations.model_validate_json(answer.value or b"")


async def list_for_users(context: RecommendationsContext, request: UsersRequest) -> UsersRecommendations:
    """The lists of many users, as they are now."""

    async def list_items(user_id: UUID) -> list[Recommendation]:
        return (await list_for_user(context, RecommendationsRequest(user_id=user_id, limit=request.limit))).items

    lists = await map_concurrently(list_items, request.user_ids, USERS_AT_ONCE)
    return UsersRecommendations(
        by_user={user_id: items for user_id, items in zip(request.user_ids, lists, strict=True) if items}
    )


async def get_recommendations(context: RecommendationsContext, user_id: UUID, limit: int) -> CachedAnswer:
    """A user's list as JSON."""

    async def fill_list() -> Fill:
        body = (await _compute_list(context, user_id, limit)).model_dump_json().encode()
        return Fill(body, frozenset({USER_ORDERS(user_id), OFFERED_PRODUCTS()}))

    return await context.cache.read(context.resources, f"{user_id}:{limit}", fill_list)


async def _compute_list(context: RecommendationsContext, user_id: UUID, limit: int) -> Recommendations:
    LISTS_COMPUTED.inc()
    settings = context.settings
    recent, repeat_after = timedelta(days=settings.recent_days), timedelta(days=settings.repeat_after_days)
    history = await candidates.find_history(context.database, user_id)
    taste = model.derive_taste(history, context.clock(), recent, repeat_after)
    return _to_recommendations(await recommend_to_taste(context.database, taste, settings.pair_minimum, limit))


async def recommend_to_taste(
    database: Database, taste: Taste, pair_minimum: int, limit: int
) -> list[tuple[str, Candidate]]:
    """The best candidates, each with its rule; `bench/recommendations.py` measures how often they are right."""
    rules: dict[str, list[Candidate]] = {}
    if taste.seeds:
        products = await candidates.find_products(database, {*taste.seeds, *taste.repeat_skus})
        rules["bought_together"] = await candidates.find_bought_together(
            database, taste.seeds, taste.excluded_skus, pair_minimum, limit
        )
        rules["bought_again"] = [
            Candidate(sku, products[sku].name, sku)
            for sku in taste.repeat_skus
            if sku in products and products[sku].buyable
        ]
        rules["popular_in_category"] = await candidates.find_popular_in_categories(
            database, model.find_favourite_categories(taste.seeds, products), taste.excluded_skus, limit
        )
    rules["popular"] = await candidates.find_popular(database, taste.excluded_skus, limit)
    return model.compose_list(limit, rules)


async def recommend_for_product(context: RecommendationsContext, sku: str, limit: int) -> Recommendations:
    """What is bought together with a product, then what is popular in its category. NotFound for a product that is not
    sold.
    """
    product = (await candidates.find_products(context.database, [sku])).get(sku)
    if product is None or not product.active:
        raise NotFound(f"no product {sku}")
    rules = {
        "bought_together": await candidates.find_bought_together(
            context.database, [sku], [sku], context.settings.pair_minimum, limit
        ),
        "popular_in_category": await candidates.find_popular_in_categories(
            context.database, [product.category], [sku], limit
        ),
    }
    return _to_recommendations(model.compose_list(limit, rules))


def _to_recommendations(composed: list[tuple[str, Candidate]]) -> Recommendations:
    return Recommendations(
        items=[
            Recommendation(
                sku=item.sku,
                name=item.name,
                rule=rule,
                because=item.because,
                support=item.support,
                confidence=item.confidence,
                lift=item.lift,
            )
            for rule, item in composed
        ]
    )
