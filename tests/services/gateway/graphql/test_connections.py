"""A list is paged through by the cursor of any edge: every object once, in the same order."""

from typing import Any

import pytest

from caravan.errors import BadRequest
from services.gateway.graphql.connections import read_page

ITEMS = [{"id": n} for n in range(23)]


class StandInList:
    """A service's list, whose cursor is the number of the next object."""

    async def read(self, service: str, path: str, query: dict[str, Any]) -> dict[str, Any]:
        start = int(query["cursor"] or 0)
        end = start + query["limit"]
        return {"items": ITEMS[start:end], "next_cursor": str(end) if end < len(ITEMS) else None}


async def read(first: int, after: str | None) -> dict[str, Any]:
    return await read_page(StandInList(), "s", "/p", {}, first, after)  # type: ignore[arg-type]


@pytest.mark.parametrize("first", [1, 4, 7, 23, 100])
@pytest.mark.parametrize("edge", [-1, 0, 2])
async def test_each_object_comes_once(first: int, edge: int) -> None:
    """`edge`: after which edge of a page the next one is asked for, counted from the page's begin or end."""
    seen: list[dict[str, Any]] = []
    after, has_more = None, True
    while has_more:
        page = await read(first, after)
        at = min(edge, len(page["edges"]) - 1) if edge >= 0 else len(page["edges"]) - 1
        seen += page["nodes"][: at + 1]
        after = page["edges"][at]["cursor"]
        has_more = page["page_info"]["has_next_page"] or at + 1 < len(page["edges"])
    assert seen == ITEMS


async def test_the_end_of_a_page_is_its_last_edge() -> None:
    page = await read(5, None)
    assert page["page_info"] == {
        "has_next_page": True,
        "has_previous_page": False,
        "start_cursor": page["edges"][0]["cursor"],
        "end_cursor": page["edges"][-1]["cursor"],
    }
    assert (await read(5, page["page_info"]["end_cursor"]))["nodes"] == ITEMS[5:10]


@pytest.mark.parametrize("cursor", ["~", "~x", "~0", "~100", "a~-1", "~٣"])
async def test_a_cursor_that_no_list_gave_out_is_refused(cursor: str) -> None:
    with pytest.raises(BadRequest):
        await read(5, cursor)
