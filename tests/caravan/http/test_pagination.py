"""Pages end where their rows end."""

from pathlib import Path

import orjson
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import caravan
from caravan.http import decode_cursor, make_page_response

ROOT = Path(caravan.__file__).parents[1]


class Item(BaseModel):
    number: int


@given(count=st.integers(0, 30), limit=st.integers(1, 12))
def test_walking_the_pages_gives_each_row_once_and_the_last_page_says_so(count: int, limit: int) -> None:
    seen: list[int] = []
    after, pages = -1, 0
    while True:
        rows = [number for number in range(count) if number > after][: limit + 1]
        page = orjson.loads(
            bytes(make_page_response(rows, limit, lambda row: Item(number=row), lambda row: (row,)).body)
        )
        seen += [item["number"] for item in page["items"]]
        pages += 1
        if page["next_cursor"] is None:
            break
        after = (decode_cursor(page["next_cursor"], int) or [0])[0]
    assert seen == list(range(count))
    assert pages == max(1, -(-count // limit))


def test_no_list_makes_its_pages_otherwise() -> None:
    """A full page is no sign that another follows: `make_page_response` asks for one row more.

    The lists of jobs and dead letters gather from several origins.
    """
    own = {
        "caravan/http/pagination.py",
        "services/gateway/admin/job_admin.py",
        "services/gateway/admin/dead_letter_fanout.py",
        "services/gateway/admin/dead_letters.py",
    }
    paths = [path for folder in ("caravan", "services", "cli") for path in (ROOT / folder).rglob("*.py")]
    found = {str(path.relative_to(ROOT)) for path in paths if "next_cursor=" in path.read_text()}
    assert found <= own | {"cli/api_client.py"}
