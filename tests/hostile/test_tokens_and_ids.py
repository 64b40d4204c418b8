"""Tokens, ids and hidden requests that mean harm, at a shop whose services have a process each."""

import asyncio
import base64
import json
from collections import Counter

import httpx2
import pytest

from tests.hostile.apart import Apart
from tests.hostile.raw_requests import build_get, build_post, count_statuses


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
        build_post("/v1/users", {}, b"connection: close") + framing + b"0\r\n\r\n" + build_get("/v1/nothing") + b"\r\n"
    )
    assert 404 not in count_statuses([answer]) and b"500 " not in answer[:20] and answer.startswith(b"HTTP/1.1 4"), (
        answer[:200]
    )


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


async def test_tokens_that_no_parser_likes_are_refused_by_every_route(shop: Apart) -> None:
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
            status = next(iter(count_statuses([answer])), 0)
            seen[status] += 1
            assert 200 <= status < 500 or b"not known yet" in answer, (target[:200], answer[-300:])
            assert b"set-cookie" not in answer.lower().partition(b"\r\n\r\n")[0]

    async with shop.others_served():
        await asyncio.gather(*(ask(place) for place in targets))
    assert seen[404] and seen[422] and seen[400], seen
