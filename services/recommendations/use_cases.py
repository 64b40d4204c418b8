"""Recommend, to a user or beside a product."""

from datetime import timedelta
from uuid import UUID

from prometheus_client import Counter

from caravan.errors import NotFound
from caravan.service import Context
from services.recommendations import model
from services.recommendations.cache import Cache
from services.recommendations.client import Recommendation, Recommendations, RecommendationsRequest
from services.recommendations.model import Candidate
from services.recommendations.settings import Settings
from services.recommendations.store import candidates

RecommendationsContext = Context[Settings, Cache]

MOST = 100

COMPUTED = Counter("caravan_recommendations_computed_total", "Lists computed from the tables, not found in the cache")
CACHED = Counter("caravan_recommendations_cache_total", "Lists asked for, by whether the cache had them: hit, miss", ["result"])


async def for_user(context: RecommendationsContext, request: RecommendationsRequest) -> Recommendations:
    body, _ = await recommend(context, request.user_id, max(1, min(request.limit, MOST)))
    return Recommendations.model_validate_json(body)


async def recommend(context: RecommendationsContext, user_id: UUID, limit: int) -> tuple[bytes, bool]:
    """A user's list as JSON, and whether the cache had it."""
    found = await context.parts.read(user_id, limit)
    CACHED.labels("hit" if found.body else "miss").inc()
    if found.body:
        return found.body, True
    body = (await _compute(context, user_id, limit)).model_dump_json().encode()
    await context.parts.write(user_id, limit, found.stamp, body)
    return body, False


async def _compute(context: RecommendationsContext, user_id: UUID, limit: int) -> Recommendations:
    COMPUTED.inc()
    database = context.database
    settings = context.settings
    recent, rest = timedelta(days=settings.recent_days), timedelta(days=settings.again_days)
    taste = model.taste(await candidates.history(database, user_id), context.clock(), recent, rest)
    rules: dict[str, list[Candidate]] = {}
    if taste.seeds:
        known = await candidates.products(database, {*taste.seeds, *taste.again})
        rules["bought_together"] = await candidates.together(database, taste.seeds, taste.excluded, context.settings.pair_minimum, limit)
        rules["bought_again"] = [Candidate(sku, known[sku].name, sku) for sku in taste.again if sku in known and known[sku].buyable]
        rules["popular_in_category"] = await candidates.popular_in(database, model.favourites(taste.seeds, known), taste.excluded, limit)
    rules["popular"] = await candidates.popular(database, taste.excluded, limit)
    return _listed(model.compose(limit, rules))


async def recommend_beside(context: RecommendationsContext, sku: str, limit: int) -> Recommendations:
    """What is bought together with a product, then what is popular in its category. NotFound for a product that is not sold."""
    product = (await candidates.products(context.database, [sku])).get(sku)
    if product is None or not product.active:
        raise NotFound(f"no product {sku}")
    rules = {
        "bought_together": await candidates.together(context.database, [sku], [sku], context.settings.pair_minimum, limit),
        "popular_in_category": await candidates.popular_in(context.database, [product.category], [sku], limit),
    }
    return _listed(model.compose(limit, rules))


def _listed(chosen: list[tuple[str, Candidate]]) -> Recommendations:
    return Recommendations(items=[Recommendation(sku=item.sku, name=item.name, rule=rule, because=item.because) for rule, item in chosen])
