"""Reports as Parquet files."""

import io
import sys
from datetime import date
from typing import Any

import pytest

from services.analytics.parquet import NotInstalled, format_parquet
from services.analytics.schemas import CohortsRow
from tests.services.analytics.conftest import publish_messages
from tests.services.analytics.reports import get_report, make_month
from tests.support.shop import Shop

TYPE = "application/vnd.apache.parquet"


def read_file(content: bytes) -> Any:
    from pyarrow import parquet

    return parquet.read_table(io.BytesIO(content))


@pytest.mark.parametrize(
    "path", ["sales?by=product", "sales?by=country", "customers?", "cohorts?", "refunds?", "funnel?"]
)
async def test_a_file_holds_what_json_holds(shop: Shop, path: str) -> None:
    await publish_messages(shop, make_month())
    path = f"/v1/reports/{path}&from=2026-03-01"
    report = await get_report(shop, path)
    answers = [
        await shop.client.get(path, headers={**shop.issue_headers("staff"), "accept": TYPE}),
        await shop.client.get(path + "&format=parquet", headers=shop.issue_headers("staff")),
    ]
    for answer in answers:
        assert (answer.status_code, answer.headers["content-type"]) == (200, TYPE), answer.text
        assert answer.headers["content-disposition"].endswith('.parquet"')
        rows = read_file(answer.content).to_pylist()
        assert [{**row, **({"cohort": str(row["cohort"])} if "cohort" in row else {})} for row in rows] == report[
            "rows"
        ]


def test_columns_have_types_also_without_rows() -> None:
    columns = tuple(CohortsRow.model_fields)
    row = CohortsRow(cohort=date(2026, 3, 2), later=0, customers=1, share=1.0, orders=2)
    types = ["date32[day]", "int64", "int64", "double", "int64"]
    for rows in ([], [row]):
        table = read_file(format_parquet(CohortsRow, columns, rows))
        assert [str(field.type) for field in table.schema] == types
        assert table.num_rows == len(rows)


async def test_without_pyarrow_the_answer_says_what_to_install(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(NotInstalled, match="pip install"):
        format_parquet(CohortsRow, ("cohort",), [])
    answer = await shop.client.get("/v1/reports/sales?format=parquet", headers=shop.issue_headers("staff"))
    assert (answer.status_code, answer.json()["type"]) == (501, "https://caravan.dev/problems/not-installed")
    assert "caravan[parquet]" in answer.json()["detail"]
    assert (await get_report(shop, "/v1/reports/sales"))["rows"] == []
