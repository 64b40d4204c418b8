"""The trie against the obvious way to do it."""

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.routing.trie import Trie, iterate_declared_routes

SEGMENTS = st.sampled_from(["v1", "me", "users", "{id}", "{name}"])
TEMPLATES = st.lists(
    st.lists(SEGMENTS, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts)), min_size=1, max_size=12
)
PATHS = st.lists(st.sampled_from(["v1", "me", "users", "42", "", ".", ".."]), max_size=5).map(
    lambda parts: "/" + "/".join(parts)
)


def naive(templates: list[str], path: str) -> str | None:
    given_parts = path.split("/")[1:]
    fitting = []
    for template in templates:
        parts = template.split("/")[1:]
        literal = tuple(part[0] != "{" for part in parts)
        fits = len(parts) == len(given_parts) and all(
            (value not in ("", ".", "..") if part[0] == "{" else part == value)
            for part, value in zip(parts, given_parts, strict=True)
        )
        if fits:
            fitting.append((literal, template))
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None


def shape(template: str | None) -> str | None:
    return template and "/".join("{}" if part.startswith("{") else part for part in template.split("/"))


@given(TEMPLATES, PATHS)
def test_the_most_literal_template_that_fits_wins(templates: list[str], path: str) -> None:
    found = Trie((template, "GET", "x") for template in templates).find_route(path)
    assert shape(found.template if found else None) == shape(naive(templates, path))


@given(TEMPLATES)
def test_a_template_is_no_path(templates: list[str]) -> None:
    trie = Trie((template, "GET", "x") for template in templates)
    for template in templates:
        found = trie.find_route(template)
        assert found is not None
        assert shape(found.template) == shape(naive(templates, template))


def test_a_path_may_have_a_service_per_method_and_another_method_goes_to_the_first() -> None:
    route = Trie(
        [("/v1/a/{x}", "GET", "one"), ("/v1/a/{y}", "POST", "two"), ("/v1/a/{x}", "POST", "three")]
    ).find_route("/v1/a/7")
    assert route is not None
    assert [route.choose_service(method) for method in ("GET", "POST", "PUT")] == ["one", "two", "one"]


def test_what_services_serve_for_their_cluster_is_no_route() -> None:
    item = {"get": {"responses": {}}, "parameters": []}
    document = {
        "paths": dict.fromkeys(["/v1/a", "/metrics", "/livez", "/readyz", "/internal/x/y", "/openapi.json"], item)
    }
    assert list(iterate_declared_routes("x", document)) == [("/v1/a", "GET", "x")]
