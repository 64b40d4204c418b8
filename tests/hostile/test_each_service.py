"""Clients that mean harm at a shop whose services have a process each: what they are told, and that the others are
served meanwhile.
"""

import asyncio
import base64
import contextlib
import json
import re
import resource
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable

import httpx2
import pytest

from caravan.clock import new_id
from tests.hostile.apart import Apart, Talk, apart
from tests.support.shop import wait_until

SESSION_SECONDS = 2


@pytest.fixture(scope="module")
async def shop() -> AsyncIterator[Apart]:
    # Where the tests' own pace lets anybody through, the gateway's bounds of each address count alone.
    async with apart(GATEWAY_SESSION_SECONDS=str(SESSION_SECONDS)) as found:
        yield found


def _post(path: str, who: dict[str, str], *headers: bytes) -> bytes:
    own = [b"%s: %s" % (name.encode(), value.encode()) for name, value in who.items()]
    return (
        b"\r\n".join(
            [b"POST %s HTTP/1.1" % path.encode(), b"host: shop", b"content-type: application/json", *own, *headers]
        )
        + b"\r\n"
    )


def _get(path: str) -> bytes:
    return b"GET %s HTTP/1.1\r\nhost: shop\r\n" % path.encode("latin-1")


def _statuses(answers: Iterable[bytes]) -> Counter[int]:
    return Counter(int(found) for answer in answers for found in re.findall(rb"HTTP/1\.1 ([2-5]\d\d) ", answer))


async def _drip(shop: Apart, head: bytes, piece: bytes, *, seconds: float = 15) -> bytes:
    """Sends a piece every half second until the server has enough of it."""
    reader, writer = await shop.talk(head)
    reading = asyncio.ensure_future(reader.read())
    try:
        async with asyncio.timeout(seconds):
            while not reading.done():
                await asyncio.wait({reading}, timeout=0.5)
                writer.write(piece)
        return reading.result()
    except (ConnectionError, TimeoutError):
        return b"cut off"
    finally:
        reading.cancel()
        writer.close()


async def test_slow_clients_are_told_so_and_take_a_service_from_nobody(shop: Apart) -> None:
    """Bodies that stall, drip or never come in all shapes; heads that stall or drip; answers that nobody reads."""
    paths = ("/v1/orders", "/v1/users", "/v1/auth/token", f"/v1/stock/{shop.sku}/movements", "/v1/products")
    stalls = [
        b"content-length: 50\r\n\r\n{",
        b"transfer-encoding: chunked\r\n\r\n5\r\n{",
        b"expect: 100-continue\r\ncontent-length: 9\r\n\r\n",
    ]
    unread: list[Talk] = []
    async with shop.others_served() as seen:
        bodies = [shop.answer(_post(path, shop.who) + stall) for path in paths for stall in stalls for _ in range(4)]
        heads = [shop.answer(_get("/v1/products")[:size]) for size in (1, 20, 40) for _ in range(15)]
        dripped = [_drip(shop, _post(path, shop.who) + b"content-length: 500\r\n\r\n", b" ") for path in paths]
        dripped += [_drip(shop, _get("/v1/products"), b"x: y\r\n") for _ in range(5)]
        for _ in range(20):
            reader, writer = await shop.talk((_get("/openapi.json") + b"\r\n") * 8)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            unread.append((reader, writer))
        answers = await asyncio.gather(*bodies, *heads, *dripped)
        assert len(seen) > 50
    assert _statuses(answers) == {408: len(answers)}, _statuses(answers)
    for _, writer in unread:
        writer.close()


@pytest.mark.parametrize("count", [5, 50])
async def test_clients_that_leave_amid_their_requests_take_a_service_from_nobody(shop: Apart, count: int) -> None:
    async with shop.others_served():
        for _ in range(count):
            for path in ("/v1/orders", "/v1/auth/token"):
                _, writer = await shop.talk(_post(path, shop.who) + b"content-length: 50\r\n\r\n{")
                writer.transport.abort()
            for path in ("/v1/products?limit=100", f"/v1/stock/{shop.sku}", "/v1/users/me"):
                _, writer = await shop.talk(_get(path) + b"\r\n")
                await asyncio.sleep(0)
                writer.transport.abort()


async def test_heads_and_bodies_over_their_bounds_are_refused(shop: Apart) -> None:
    """Whether they say their length, tell a lie about it, or say none."""

    async def flood(head: bytes, piece: bytes, pieces: int) -> bytes:
        reader, writer = await shop.talk(head)
        reading = asyncio.ensure_future(reader.read())
        with contextlib.suppress(ConnectionError):
            for _ in range(pieces):
                writer.write(piece)
                await asyncio.wait_for(writer.drain(), 10)
                if reading.done():
                    break
        try:
            return await asyncio.wait_for(reading, 10)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    large = b"x" * 400_000
    users = _post("/v1/users", {})
    chunked = users + b"transfer-encoding: chunked\r\n\r\n"
    async with shop.others_served():
        answers = await asyncio.gather(
            flood(_get("/v1/products") + b"x-large: ", large, 100),
            flood(_get("/v1/products"), b"x: %b\r\n" % (b"y" * 1000), 60_000),
            flood(b"GET /v1/products?search=", large, 100),
            flood(users + b"content-length: 2000000\r\n\r\n", large, 5),
            flood(users + b"content-length: 999999999999999999\r\n\r\n", large, 100),
            flood(chunked, b"%x\r\n%b\r\n" % (len(large), large), 100),
            flood(chunked + b"ffffffff\r\n", large, 100),
            flood(chunked + b"1;", large, 100),
            flood(chunked + b"0\r\nx-trailer: ", large, 100),
        )
    statuses = [list(_statuses([answer])) for answer in answers]
    # A client that still sends may find the connection reset before it reads why.
    assert all(
        found in ([], [expected]) for found, expected in zip(statuses, [431] * 3 + [413] * 4 + [431] * 2, strict=True)
    ), statuses
    assert [413] in statuses


@pytest.mark.parametrize(
    "framing",
    [
        b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n",
        b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n",
        b"transfer-encoding: identity, chunked\r\n\r\n",
        b"transfer-encoding: \x0bchunked\r\n\r\n",
        b"transfer-encoding : chunked\r\n\r\n",
        b"transfer-encoding: chunked\r\n\r\n5\r\nhello",
        b"content-length: 0\r\ncontent-length: 44\r\n\r\n",
        b"content-length: 0, 44\r\n\r\n",
        b"content-length: +0\r\n\r\n",
        b"content-length: 0x0\r\n\r\n",
    ],
)
async def test_no_request_is_hidden_in_another_one(shop: Apart, framing: bytes) -> None:
    answer = await shop.answer(
        _post("/v1/users", {}, b"connection: close") + framing + b"0\r\n\r\n" + _get("/v1/nothing") + b"\r\n"
    )
    assert 404 not in _statuses([answer]) and b"500 " not in answer[:20] and answer.startswith(b"HTTP/1.1 4"), answer[
        :200
    ]


def _token(head: object, claims: object = None, signature: bytes = b"x" * 64) -> str:
    parts = [
        json.dumps(part).encode() if not isinstance(part, bytes) else part
        for part in (head, claims or {"sub": "a", "exp": 9e9})
    ]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (*parts, signature))


KID: dict[str, object] = {"alg": "EdDSA", "kid": "../../../../dev/null"}
ALGORITHMS: tuple[object, ...] = ("none", "None", "", None, 7, ["EdDSA"], {})
TOKENS = [
    *(_token({"alg": "EdDSA", "crit": crit}) for crit in (1, None, True, [1], ["exp"], {"a": 1}, "")),
    *(_token({"alg": alg}, signature=b"") for alg in ALGORITHMS),
    _token(KID),
    _token({**KID, "kid": 7}),
    _token({**KID, "kid": "' OR 1=1 --"}),
    _token({**KID, "jku": "http://169.254.169.254/", "x5u": "http://127.0.0.1:1/", "jwk": {"kty": "oct", "k": "eA"}}),
    _token({"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 2**31}),
    _token({"alg": "EdDSA", "zip": "DEF", "b64": False}),
    _token(b"[" * 8000),
    _token(b'{"a":' * 2500 + b"1" + b"}" * 2500),
    _token(b"9" * 6000),
    _token({"alg": "EdDSA"}, b"{" * 8000),
    _token([]),
    _token("x"),
    "." * 3000,
    "..",
    "a.b.c.d.e",
    "x" * 16_000,
    "%00",
]


async def test_tokens_that_no_parser_likes_are_refused_at_every_door(shop: Apart) -> None:
    logs = {path: path.stat().st_size for path in shop.program.data.glob("*.log")}
    targets = [
        (shop.program.url, path)
        for path in ("/v1/products", "/v1/users/me", f"/v1/orders/{shop.order_id}", "/v1/failures")
    ]
    targets += [(url, "/v1/users/me") for url in shop.urls.values()]
    seen: Counter[int] = Counter()
    async with shop.others_served(), httpx2.AsyncClient(timeout=15, trust_env=False) as client:
        for token in TOKENS:
            asked = [client.get(url + path, headers={"authorization": f"Bearer {token}"}) for url, path in targets]
            for url in shop.urls.values():
                for path in ("/internal/identity/standing", "/internal/orders/get-latest"):
                    asked.append(client.post(url + path, headers={"authorization": f"Bearer {token}"}, content=b"{}"))
            for url in shop.urls.values():
                both = {
                    "authorization": f"Bearer {token}",
                    "x-user-authorization": f"Bearer {token}",
                    "x-caravan-seconds": "1e999",
                }
                asked.append(client.post(url + "/internal/nothing", headers=both, content=b"{}"))
            answers = await asyncio.gather(*asked)
            seen.update(answer.status_code for answer in answers)
            assert {answer.status_code for answer in answers} <= {401, 404, 431}, (
                token[:80],
                [(a.url, a.status_code, a.text) for a in answers],
            )
            assert {answer.status_code for answer in answers[:4]} == {401}
    written = {path.name: path.stat().st_size - size for path, size in logs.items()}
    assert sum(written.values()) < 400 * seen.total(), written


PATHS = [
    *(
        "..%2f..%2f..%2fetc%2fpasswd",
        "..",
        "%2e%2e",
        ".",
        "%00",
        "a%00b",
        "%0d%0aset-cookie:%20a=b",
        "%ff%fe",
        "%",
        "%zz",
        "%u0041",
        "%25%32%66",
    ),
    *(
        "/",
        "//",
        "a//b",
        ";x=y",
        "a;b",
        "..;/",
        "a%2fb",
        "..%5c..%5c",
        "http://127.0.0.1/internal/x",
        "//127.0.0.1/internal/x",
        "*",
        "?",
        "#",
        "$where",
    ),
    *(
        "' OR '1'='1",
        "1;DROP TABLE products",
        "\\",
        '"',
        "${7*7}",
        "{{7*7}}",
        "%s%n",
        "x" * 8000,
        "-1",
        "9" * 400,
        "1e400",
        "NaN",
        "\x7f",
        "\xe9",
    ),
    *("%F0%9F%9A%80", "%ED%A0%80", "%C0%AE%C0%AE%C0%AF", "00000000-0000-0000-0000-000000000000", "internal", "me"),
]


async def test_ids_that_look_like_something_else_lead_nowhere(shop: Apart) -> None:
    """As the client wrote them, byte for byte, in paths and in queries, with a customer's token."""
    token = f"authorization: {shop.who['authorization']}\r\n".encode()
    targets = [
        "/v1/products/{}",
        "/v1/stock/{}",
        "/v1/orders/{}",
        "/v1/orders/{}/history",
        "/v1/users/{}",
        "{}",
        "/{}/v1/products",
        "/v1/{}/products",
    ]
    targets += [
        "/v1/products?search={}",
        "/v1/products?cursor={}",
        "/v1/products?limit={}",
        "/v1/orders?cursor={}",
        "/v1/products?{}",
    ]
    targets += [
        f"/v1/orders/{shop.order_id}?at={{}}",
        f"/v1/orders/{shop.order_id}?version={{}}",
        f"/v1/stock/{shop.sku}/{{}}",
    ]
    seen: Counter[int] = Counter()

    async def ask(place: str) -> None:
        for path in PATHS:
            target = place.replace("{}", path).encode("latin-1")
            answer = await shop.answer(
                b"GET %b HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n%b\r\n" % (target, token)
            )
            status = next(iter(_statuses([answer])), 0)
            seen[status] += 1
            assert 200 <= status < 500 or b"not known yet" in answer, (target[:200], answer[-300:])
            assert b"set-cookie" not in answer.lower().partition(b"\r\n\r\n")[0]

    async with shop.others_served():
        await asyncio.gather(*(ask(place) for place in targets))
    assert seen[404] and seen[422] and seen[400], seen


def _allow_files(count: int) -> None:
    """Each connection is a file, and a system gives fewer at first than it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            pytest.skip(f"this system lets a process have {hard} files open; this takes {count}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


@contextlib.asynccontextmanager
async def _streams(
    shop: Apart, path: str, count: int, who: dict[str, str]
) -> AsyncIterator[list[asyncio.StreamReader]]:
    own = b"".join(b"%s: %s\r\n" % (name.encode(), value.encode()) for name, value in who.items())
    opened = await asyncio.gather(*(shop.talk(_get(path) + own + b"\r\n") for _ in range(count)))
    try:
        yield [reader for reader, _ in opened]
    finally:
        for _, writer in opened:
            writer.close()


async def test_a_thousand_streams_from_one_address_take_nothing_from_requests(shop: Apart) -> None:
    """Half of them anybody's, half of one customer."""
    _allow_files(4096)
    async with (
        shop.others_served(least=200),
        _streams(shop, f"/v1/stock/{shop.sku}/events", 500, {}) as anybodys,
        _streams(shop, f"/v1/orders/{shop.order_id}/events", 500, shop.who) as hers,
    ):
        lines = await asyncio.gather(*(asyncio.wait_for(reader.readline(), 30) for reader in (*anybodys, *hers)))
        answers = Counter(int(line.split(b" ")[1]) for line in lines)
        assert 0 < answers[200] <= 100 and set(answers) <= {200, 429, 503}, answers

    async def connections_are_free() -> bool:
        shown = (await shop.program.client.get("/metrics")).text
        found = re.search(r"^caravan_gateway_streams (\S+)", shown, re.MULTILINE)
        return found is not None and float(found[1]) == 0

    await wait_until(connections_are_free, seconds=40, every=0.2)


@pytest.mark.parametrize("how", ["disabled", "new password"])
async def test_a_stream_ends_soon_after_its_session(shop: Apart, how: str) -> None:
    email, password = f"{new_id()}@example.com", "a long enough password"
    client = shop.program.client
    user_id = (
        await client.post("/v1/users", json={"email": email, "password": password, "name": "Eve Moneypenny"})
    ).json()["id"]
    watching = {"authorization": f"Bearer {await shop.program.fetch_token(username=email, password=password)}"}
    acting = {"authorization": f"Bearer {await shop.program.fetch_token(username=email, password=password)}"}
    order_id = (await shop.program.place_order(watching, shop.sku)).json()["id"]
    async with _streams(shop, f"/v1/orders/{order_id}/events", 1, watching) as [reader]:
        assert b" 200 " in await reader.readline()
        if how == "disabled":
            changed = await client.patch(
                f"/v1/users/{user_id}", json={"disabled": True}, headers=await shop.program.authorize_operator()
            )
        else:
            changed = await client.post(
                "/v1/users/me/password",
                json={"current_password": password, "new_password": "another long password"},
                headers=acting,
            )
        assert changed.status_code in (200, 204), changed.text
        rest = await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), SESSION_SECONDS + 5)
        assert rest.endswith(b"0\r\n\r\n"), "the stream ends as a whole answer"
    assert (await client.get("/v1/users/me", headers=watching)).status_code == 401


@pytest.mark.slow
async def test_wrong_passwords_from_elsewhere_do_not_keep_the_owner_out(shop: Apart) -> None:
    email, password = f"{new_id()}@example.com", "a long enough password"
    client = shop.program.client
    assert (
        await client.post("/v1/users", json={"email": email, "password": password, "name": "Eve Moneypenny"})
    ).status_code == 201

    async def guess(number: int) -> int:
        form = {"grant_type": "password", "username": email, "password": f"wrong {number} wrong"}
        return (await client.post("/v1/auth/token", data=form)).status_code

    async with shop.others_served():
        answers = Counter(await asyncio.gather(*(guess(number) for number in range(40))))
        assert set(answers) <= {400, 401, 429}, answers
        transport = httpx2.AsyncHTTPTransport(local_address="127.0.0.3" if sys.platform == "linux" else None)
        async with httpx2.AsyncClient(
            base_url=shop.program.url, timeout=40, trust_env=False, transport=transport
        ) as owner:
            signed_in = await owner.post(
                "/v1/auth/token", data={"grant_type": "password", "username": email, "password": password}
            )
        assert signed_in.status_code == 200, signed_in.text
