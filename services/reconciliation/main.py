"""The reconciliation service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from caravan.service import DatabaseDeclaration, PeriodicTask, Service
from services.reconciliation.api import router
from services.reconciliation.model.books import ORDER_SERVICES
from services.reconciliation.settings import Settings
from services.reconciliation.use_cases import ReconciliationContext, ReconciliationResources, measure_lag
from services.reconciliation.use_cases.compare import run_when_due


@asynccontextmanager
async def open_resources(context: ReconciliationContext) -> AsyncIterator[ReconciliationResources]:
    yield ReconciliationResources(measure_lag)


service = Service(
    "reconciliation",
    databases=(DatabaseDeclaration("reconciliation", Path(__file__).parent / "migrations"),),
    routers=(router,),
    callees=ORDER_SERVICES,
    settings=Settings,
    periodic_tasks=(PeriodicTask("compare", 5.0, run_when_due),),
    open_resources=open_resources,
)
