"""The recommendations service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from caravan.service import DatabaseDeclaration, Service
from services.recommendations import use_cases
from services.recommendations.api import router
from services.recommendations.cache import RecommendationCache
from services.recommendations.client import LIST_RECOMMENDATIONS
from services.recommendations.consumers import consume
from services.recommendations.settings import Settings
from services.recommendations.use_cases import RecommendationsContext


@asynccontextmanager
async def open_cache(context: RecommendationsContext) -> AsyncIterator[RecommendationCache]:
    yield RecommendationCache(context.redis, context.settings.cache_seconds)


service = Service(
    "recommendations",
    databases=(DatabaseDeclaration("recommendations", Path(__file__).parent / "migrations"),),
    routers=(router,),
    consumers=consume,
    operations=(LIST_RECOMMENDATIONS.bind(use_cases.list_for_user),),
    settings=Settings,
    open_resources=open_cache,
)
