"""The job that writes daily reports: once, however many replicas there are."""

from caravan.jobs import Cron, Job, Jobs
from services.analytics import use_cases
from services.analytics.use_cases import AnalyticsContext

jobs = Jobs("analytics")


@jobs.job("analytics.reports-write", global_concurrency=1, schedule=Cron("*/5 * * * *"))
async def write_reports(context: AnalyticsContext, _: Job) -> dict[str, list[str]]:
    """Write the reports of the days that have ended, and again those that late messages have changed."""
    return {"written": [str(day) for day in await use_cases.write_daily_reports(context)]}
