"""The recommendations service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from caravan.cache import Cache
from caravan.service import OUTBOX_STATE, DatabaseDeclaration, Service
from services.recommendations import caches, projections, use_cases
from services.recommendations.api import router
from services.recommendations.client import LIST_FOR_USERS, LIST_RECOMMENDATIONS
from services.recommendations.consumers import consume
from services.recommendations.settings import Settings
from services.recommendations.use_cases import RecommendationsContext


@asynccontextmanager
async def open_resources(context: RecommendationsContext) -> AsyncIterator[Cache]:
    """The cache of lists with the life that the settings give it."""
    yield replace(caches.USER_LISTS, seconds=context.settings.cache_seconds)


service = Service(
    "recommendations",
    databases=(
        DatabaseDeclaration(
            "recommendations", Path(__file__).parent / "migrations", readers={"reconciliation": OUTBOX_STATE}
        ),
    ),
    routers=(router,),
    consumers=consume,
    operations=(LIST_RECOMMENDATIONS.bind(use_cases.list_for_user), LIST_FOR_USERS.bind(use_cases.list_for_users)),
    caches=caches.CACHES,
    settings=Settings,
    projections={"purchases": projections.PURCHASES},
    open_resources=open_resources,
)
