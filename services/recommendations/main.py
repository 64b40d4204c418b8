"""The recommendations service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from caravan.service import DatabaseDeclaration, Service
from services.recommendations import use_cases
from services.recommendations.api import router
from services.recommendations.cache import Cache
from services.recommendations.client import FOR_USER
from services.recommendations.consumers import consume
from services.recommendations.settings import Settings
from services.recommendations.use_cases import RecommendationsContext


@asynccontextmanager
async def cache(context: RecommendationsContext) -> AsyncIterator[Cache]:
    yield Cache(context.redis, context.settings.cache_seconds)


service = Service(
    "recommendations",
    databases=(DatabaseDeclaration("recommendations", Path(__file__).parent / "migrations"),),
    routers=(router,),
    consumers=consume,
    operations={FOR_USER: use_cases.for_user},
    settings=Settings,
    parts=cache,
)
