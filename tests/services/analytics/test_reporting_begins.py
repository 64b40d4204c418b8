"""The update that makes the group `reporting`: it begins with what the group `analytics` had written and handled."""

from caravan.database.migrations import KERNEL_VERSIONS, upgrade_database
from caravan.runtime import Backends
from services.analytics.main import service
from tests.services.analytics.conftest import publish_messages
from tests.services.analytics.reports import get_report, make_month
from tests.support.shop import Shop

PERIOD = {"from": "2026-03-09", "to": "2026-03-10"}


async def test_reports_are_the_same_after_the_update_and_old_messages_count_once(
    shop: Shop, backends: Backends
) -> None:
    published = make_month()
    await publish_messages(shop, published)
    before = await get_report(shop, "/v1/reports/sales", by="product", **PERIOD)
    database = shop.get_database("analytics")
    await database.execute("DROP TABLE sale")
    await database.execute("DELETE FROM inbox WHERE consumer LIKE 'reporting.%'")
    await database.execute("UPDATE alembic_version SET version_num = 'analytics0001' WHERE version_num LIKE 'ana%'")

    versions = [KERNEL_VERSIONS, service.databases[0].version_folder]
    assert await upgrade_database("analytics", backends.get_database_url("analytics"), versions) == ["analytics0002"]

    assert await get_report(shop, "/v1/reports/sales", by="product", **PERIOD) == before
    countries = (await get_report(shop, "/v1/reports/sales", by="country", **PERIOD))["rows"]
    assert {row["key"] for row in countries} == {"ZZ"}
    await publish_messages(shop, published, seed=1, times=2)
    assert (await get_report(shop, "/v1/reports/sales", by="country", **PERIOD))["rows"] == countries
    assert await database.fetchval("SELECT count(*) FROM inbox WHERE consumer LIKE 'reporting.%'") == 13
