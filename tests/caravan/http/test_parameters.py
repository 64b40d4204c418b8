"""A parameter that a route does not declare, that comes twice, or that is written in no documented way is refused."""

from types import SimpleNamespace
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Header, Query
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.http import FREE_PARAMETERS, create_app

router = APIRouter()
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)


@router.get("/search")
async def search(
    text: str = "",
    limit: int = 10,
    exact: bool = False,
    tag: Annotated[list[str] | None, Query()] = None,
    x_depth: Annotated[int | None, Header()] = None,
) -> dict[str, Any]:
    return {"text": text, "limit": limit, "exact": exact, "tag": tag, "depth": x_depth}


@router.get("/free", openapi_extra={FREE_PARAMETERS: "filter."})
async def search_freely() -> str:
    return "found"


@router.get("/nothing")
async def ask_nothing() -> str:
    return "nothing"


async def fetch(path: str, query: Any = None, headers: dict[str, str] | None = None) -> httpx2.Response:
    app = create_app("pets", (router,), SimpleNamespace(secret="x" * 40, refused=None), SimpleNamespace())
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://shop.test") as client:
        return await client.get(path, params=query, headers=headers)


async def list_errors(path: str, query: Any = None, headers: dict[str, str] | None = None) -> dict[str, str]:
    response = await fetch(path, query, headers)
    assert response.status_code == 422, response.text
    return {error["field"]: error["rule"] for error in response.json()["errors"]}


async def test_what_is_declared_is_read() -> None:
    query = {"text": "a b", "limit": "-5", "exact": "true", "tag": ["x", "y"]}
    response = await fetch("/search", query, {"x-depth": "3"})
    assert response.json() == {"text": "a b", "limit": -5, "exact": True, "tag": ["x", "y"], "depth": 3}


async def test_an_unknown_parameter_is_refused_with_those_that_there_are() -> None:
    assert await list_errors("/search", {"txet": "a"}) == {
        "query.txet": "is not a parameter of this path; there are: exact, limit, tag, text"
    }
    assert await list_errors("/nothing", {"a": ""}) == {"query.a": "is not a parameter of this path; there are: none"}


async def test_what_is_given_twice_is_refused_unless_it_is_a_list() -> None:
    assert await list_errors("/search", [("text", "a"), ("text", "a")]) == {"query.text": "must be given once"}
    assert (await fetch("/search", [("tag", "a"), ("tag", "a")])).status_code == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("limit", value) for value in ("1_0", "+1", "1.0", " 1", "0x1", "1e1", "", "\u0661", "1" * 21)),
        *(("exact", value) for value in ("on", "1", "True", "yes", "")),
    ],
)
async def test_a_number_is_digits_and_a_truth_is_true_or_false(name: str, value: str) -> None:
    assert (await list_errors("/search", {name: value})).keys() == {f"query.{name}"}


async def test_a_header_is_held_to_the_same_and_one_that_nobody_declared_is_let_through() -> None:
    assert await list_errors("/search", headers={"x-depth": "1_0"}) == {
        "header.x-depth": "must be a whole number, in digits"
    }
    assert (await fetch("/search", headers={"x-other": "1_0"})).status_code == 200


async def test_a_route_that_checks_a_prefix_itself_gets_what_begins_with_it_and_no_more() -> None:
    assert (await fetch("/free", {"filter.color": "red"})).status_code == 200
    assert (await list_errors("/free", {"color": "red"})).keys() == {"query.color"}


async def test_however_many_are_wrong_the_answer_is_short() -> None:
    errors = await list_errors("/nothing", {f"{number}" + "x" * 200: "a" for number in range(50)})
    assert len(errors) == 10
    assert max(map(len, errors)) <= len("query.") + 50


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(TEXT.filter(bool), TEXT, max_size=4))
async def test_whatever_the_names_only_declared_ones_are_taken(query: dict[str, str]) -> None:
    response = await fetch("/nothing", query)
    assert response.status_code == (422 if query else 200)
