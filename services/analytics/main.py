"""The analytics service."""

from pathlib import Path

from caravan.service import OUTBOX_STATE, DatabaseDeclaration, Service
from services.analytics import caches, projections, timeline
from services.analytics.api import router
from services.analytics.consumers import consume, report
from services.analytics.jobs import jobs
from services.analytics.settings import Settings

service = Service(
    "analytics",
    databases=(
        DatabaseDeclaration(
            "analytics", Path(__file__).parent / "migrations", readers={"reconciliation": OUTBOX_STATE}
        ),
    ),
    routers=(router,),
    consumers=consume,
    consumer_groups=(report,),
    settings=Settings,
    jobs=jobs,
    caches=caches.CACHES,
    projections={"order_facts": projections.ORDER_FACTS, "sales": projections.SALES},
    timeline=timeline.describe_audit,
)
