"""The analytics service."""

from pathlib import Path

from caravan.service import DatabaseDeclaration, PeriodicTask, Service
from services.analytics import projections, timeline, use_cases
from services.analytics.api import router
from services.analytics.consumers import consume, report
from services.analytics.settings import Settings

service = Service(
    "analytics",
    databases=(DatabaseDeclaration("analytics", Path(__file__).parent / "migrations"),),
    routers=(router,),
    consumers=consume,
    consumer_groups=(report,),
    settings=Settings,
    periodic_tasks=(PeriodicTask("daily-reports", 300.0, use_cases.write_daily_reports),),
    projections={"order_facts": projections.ORDER_FACTS, "sales": projections.SALES},
    timeline=timeline.describe_audit,
)
