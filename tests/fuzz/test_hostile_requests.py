"""Hostile values in every place of every operation, by everybody: no answer is a server error, and each keeps what the
document promises.
"""

import asyncio
import contextlib
import http.client
import itertools
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode

from tests.fuzz import hostile
from tests.fuzz.conftest import World
from tests.fuzz.promises import Answer, Promises

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
"""0: the fixed budget of `make test`."""
EXAMPLES = [6] if MINUTES else [2, pytest.param(12, marks=pytest.mark.slow)]
"""Per operation and role."""
EVENTS = "text/event-stream"
FORM = "application/x-www-form-urlencoded"


@dataclass
class Request:
    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    content: bytes | None = None

    @property
    def target(self) -> str:
        return self.path + (f"?{urlencode(self.query, errors='surrogatepass')}" if self.query else "")


@dataclass
class Client:
    """Sends what a well-behaved client library would not."""

    url: str
    connection: http.client.HTTPConnection | None = None

    def send(self, request: Request) -> Answer:
        """On a new connection where the old one is closed: a server that has refused what comes doesn't read to its
        end.
        """
        kept = self.connection is not None
        try:
            return self._send(request)
        except (ConnectionError, http.client.BadStatusLine):
            if not kept:
                raise
            return self._send(request)

    def _send(self, request: Request) -> Answer:
        parts = urlsplit(self.url)
        if self.connection is None:
            self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        connection = self.connection
        named = {name.lower() for name in request.headers}
        connection.putrequest(request.method, request.target, skip_host="host" in named, skip_accept_encoding=True)
        for name, value in request.headers.items():
            connection.putheader(name, value.encode("latin-1", "replace"))
        if request.content is not None:
            connection.putheader("Content-Length", str(len(request.content)))
        try:
            with contextlib.suppress(BrokenPipeError):  # the answer may be there already
                connection.endheaders(request.content)
            found = connection.getresponse()
            answer = Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())
        except BaseException:
            self.close()
            raise
        if found.will_close:
            self.close()
        return answer

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None


Operations = list[tuple[Any, st.SearchStrategy[Any]]]


def list_operations(document: dict[str, Any]) -> Operations:
    """Each operation that ends, with what the document allows to ask of it."""
    results = schemathesis.openapi.from_dict(document).get_all_operations()
    found = [result.ok() for result in results]  # type: ignore[union-attr]
    return [
        (operation, operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
        for operation in found
        if EVENTS not in operation.definition.raw["responses"].get("200", {}).get("content", {})
    ]


@dataclass
class Round:
    """All operations once more, by one role."""

    world: World
    operations: Operations
    promises: Promises
    headers: dict[str, str]
    known: dict[str, str]
    seed: int
    examples: int
    inputs: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def run(self, until: float) -> None:
        client = Client(str(self.world.client.base_url))
        for operation, cases in self.operations:
            if time.monotonic() < until:
                self._explore(client, operation, cases)
        client.close()

    def _explore(self, client: Client, operation: Any, cases: st.SearchStrategy[Any]) -> None:
        @hypothesis.seed(self.seed)
        @hypothesis.settings(
            max_examples=self.examples,
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
        )
        @hypothesis.given(case=cases, data=st.data())
        def ask(case: Any, data: st.DataObject) -> None:
            request = _request(operation, case, data.draw, self.headers, self.known)
            answer = client.send(request)
            self.inputs += 1
            self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
            broken = self.promises.broken(operation.definition.raw, answer)
            assert not broken, f"{broken}\n{request!r}\n{answer.status} {answer.headers}\n{answer.content[:1500]!r}"

        try:
            ask()
        except Exception as error:
            self.failures.append(f"{operation.label}: {error}")


Draw = Callable[[st.SearchStrategy[Any]], Any]


def _request(operation: Any, case: Any, draw: Draw, headers: dict[str, str], known: dict[str, str]) -> Request:
    """A request that the document allows, mostly about things that exist, with something hostile in one place or in a
    few.
    """
    path_parameters = {name: str(value) for name, value in (case.path_parameters or {}).items()}
    if draw(st.integers(0, 3)):
        path_parameters |= {name: known[name] for name in path_parameters if name in known}
    query = [(name, str(value)) for name, value in (case.query or {}).items() if value is not None]
    sent = {
        name.lower(): str(value) for name, value in (case.headers or {}).items() if name.lower() != "authorization"
    } | headers
    body = case.body if isinstance(case.body, dict | list) else None
    form = case.media_type == FORM
    content_type = case.media_type
    content: bytes | None = None
    spoilt = False
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        place = draw(st.sampled_from(["path", "query", "header", "body", "body", "raw", "type"]))
        if place == "path" and path_parameters:
            path_parameters[draw(st.sampled_from(sorted(path_parameters)))] = draw(hostile.texts)
        elif place == "query":
            names = [
                parameter["name"]
                for parameter in operation.definition.raw.get("parameters", ())
                if parameter["in"] == "query"
            ]
            name = draw(st.sampled_from([*names, *names, "nothing", ""])) if names else draw(hostile.texts)
            query = [(other, value) for other, value in query if other != name or draw(st.booleans())]
            query.append(
                (name, str(draw(hostile.cursors if name == "cursor" else st.one_of(hostile.texts, hostile.numbers))))
            )
        elif place == "header":
            name, value = draw(hostile.headers)
            sent[name] = value
        elif place == "body" and isinstance(body, dict):
            body = _with_hostile(body, draw)
        elif place == "type":
            content_type = draw(st.sampled_from(hostile.CONTENT_TYPES))
        else:
            spoilt = spoilt or place == "raw"
    if body is not None:
        content = (
            _form(body)
            if form and isinstance(body, dict)
            else json.dumps(body, allow_nan=True).encode("utf-8", "surrogatepass")
        )
    if spoilt:
        content = draw(hostile.spoilt(content or b""))
    if content is not None and content_type is not None:
        sent["content-type"] = content_type
    path = case.operation.path
    for name, value in path_parameters.items():
        path = path.replace(f"{{{name}}}", quote(value.encode("utf-8", "surrogatepass"), safe=""))
    return Request(case.operation.method.upper(), path, query, sent, content)


def _with_hostile(body: dict[str, Any], draw: Draw) -> dict[str, Any]:
    """One field, at any depth, with a hostile value, without one, or beside one that nobody declared."""
    made = json.loads(json.dumps(body))
    node: Any = made
    while isinstance(node, dict) and node:
        name = draw(st.sampled_from([*node, *node, draw(hostile.texts)]))
        child = node.get(name)
        if isinstance(child, list) and child and isinstance(child[0], dict) and draw(st.booleans()):
            child = child[0]
        if isinstance(child, dict) and child and draw(st.booleans()):
            node = child
            continue
        if name in node and draw(st.integers(0, 5)) == 0:
            del node[name]
        else:
            node[name] = draw(hostile.values)
        break
    return dict(made)


def _form(body: Any) -> bytes:
    pairs = [(str(name), str(value)) for name, value in body.items()]
    return urlencode(pairs, errors="surrogatepass").encode()


# The shop runs in a thread beside the generator, and draws from the same `random` for its pauses.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.timeout(MINUTES * 60 + 600)
@pytest.mark.parametrize("examples", EXAMPLES)
async def test_no_hostile_request_breaks_what_the_document_promises(
    world: World, record_property: Any, examples: int
) -> None:
    promises, operations = Promises(world.document), list_operations(world.document)
    total, statuses, failures = 0, dict[int, int](), list[str]()
    end = time.monotonic() + (MINUTES * 60 or 3600)
    for turn in itertools.count():
        for role in ("anonymous", "customer", "admin"):
            user_id, headers = await world.user(role) if role != "anonymous" else ("", {})
            sku = await world.product()  # of this round: an admin's requests end the sale of what they find
            own = (
                {"user_id": user_id, "sku": sku, "order_id": await world.order(sku, headers)}
                if headers
                else {"sku": sku}
            )
            seed = turn if not MINUTES else int.from_bytes(os.urandom(4))
            found = Round(world, operations, promises, headers, world.known | own, seed, examples)
            await asyncio.to_thread(found.run, end)
            total, failures = total + found.inputs, [*failures, *found.failures]
            statuses = {
                status: statuses.get(status, 0) + found.statuses.get(status, 0) for status in statuses | found.statuses
            }
            if MINUTES:
                print(f"fuzz: round {turn + 1}, {role}: {total} inputs, {dict(sorted(statuses.items()))}", flush=True)
        if time.monotonic() >= end or not MINUTES:
            break
    assert not failures, "\n\n".join(failures)
    record_property("inputs", total)
    assert {200, 400, 401, 403, 404, 415, 422} <= statuses.keys(), (
        f"requests that reach nothing prove nothing: {statuses}"
    )
    assert total >= examples * len(operations) * 3 / 2 or MINUTES, total
