"""What a field of a request is filled with: legal extremes, and their illegal neighbours."""

import base64
import json
from typing import Any

from hypothesis import strategies as st

TEXTS = [
    "",
    " ",
    "\t\n",
    "\x00",
    "a\x00b",
    "\x1b[2J",
    "\x9b31m",
    "\x7f",
    "\r\nX-Injected: 1",
    "\u202egpj.exe",
    "\u2066a\u2069",
    "\u200b",
    "\u200d",
    "\ufeffname",
    "\ufffe",
    "\ue000",
    "\u2028",
    "\u3164",
    "\xad",
    "\ud800",
    "a\udfffb",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U000e0041",
    "\U0010ffff",
    "e" + "\u0301" * 300,
    "\ufdfa" * 60,
    "\u0958" * 100,
    "\u0130\u0131\u00df\u1e9e\ufb03",
    "\u1100\u1161\u11a8",
    "null",
    "NaN",
    "-0",
    "1e400",
    "0x10",
    "\u0661\u0662",
    "\uff11",
    "true",
    "[]",
    "{}",
    "*",
    "%",
    "%00",
    "%ff%fe",
    "..",
    "../../etc/passwd",
    "a/b",
    "a;b?c#d",
    "' OR 1=1 --",
    "\\",
    '"',
    "$1",
    "{0}%s%n${x}",
    "<script>alert(1)</script>",
    "[/bold]",
    "=1+1",
    "-" * 40,
    '"' * 40,
    "(" * 200,
    "a & b | !c <-> d:*",
    "or or or",
    "a@b",
    "a@" + "b" * 64 + ".example",
    "x" * 65 + "@example.com",
    "\u00fc@ex\u00e4mple.com",
    "0",
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "ZZ",
    "gb",
    "XXX",
]
TIMES = [
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "9999-12-31",
    "0000-01-01",
    "1899-12-31T23:59:59Z",
    "2999-12-31T23:59:59.999999999Z",
    "3000-01-01",
    "2026-02-30",
    "2024-02-29",
    "2016-12-31T23:59:60Z",
    "2026-03-01T24:00:00Z",
    "2026-03-01T09:30:00",
    "2026-03-01T09:30:00+99:99",
    "2026",
    "-2026-03-01",
    "+12026-03-01",
    "1767225600",
    "infinity",
    "now",
]
INTEGERS = [
    sign * number + off
    for number in (0, 1, 10, 100, 2**15, 2**31, 2**32, 2**53, 2**63, 2**64, 10**9, 10**12, 10**30)
    for sign in (1, -1)
    for off in (-1, 0, 1)
]
LENGTHS = [39, 40, 41, 60, 61, 100, 101, 150, 151, 199, 200, 201, 500, 501, 5000, 5001, 20_001]


def cursor(*parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


texts = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from(TIMES),
    st.builds(
        lambda letter, times: letter * times,
        st.sampled_from(["a", "\u00e9", "\u4e2d", "\U0001f600", "a\u0301", " a", "0"]),
        st.sampled_from(LENGTHS),
    ),
    st.text(max_size=40),
)
numbers = st.one_of(st.sampled_from(INTEGERS), st.integers(), st.floats(allow_nan=False, allow_infinity=False))
values: st.SearchStrategy[Any] = st.one_of(
    texts,
    numbers,
    st.none(),
    st.booleans(),
    st.lists(texts, max_size=3),
    st.dictionaries(texts, texts, max_size=3),
    st.just([[[[[{}]]]]]),
)
cursors = st.one_of(
    texts,
    st.builds(cursor),
    st.lists(st.one_of(texts, numbers, st.none(), st.lists(numbers, max_size=2)), min_size=1, max_size=4).map(
        lambda parts: cursor(*parts)
    ),
    st.sampled_from(["newest", "price", "name", "sku", "relevance", "-price"]).flatmap(
        lambda order: st.tuples(st.one_of(texts, numbers), texts).map(lambda rest: cursor(order, *rest))
    ),
)


def _token(header: str, claims: str = "{}") -> str:
    return ".".join(
        base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in (header, claims, "signature")
    )


AUTHORIZATIONS = [
    "",
    "Bearer",
    "Bearer ",
    "Bearer a",
    "Bearer a.b.c",
    "Bearer ..",
    "Bearer \xff.\xff.\xff",
    "Basic",
    "Basic !!!",
    "Basic Og==",
    "Basic " + base64.b64encode(b"\xff:\xfe").decode(),
    "Negotiate abc",
    "Bearer " + "a" * 9000,
    *(
        "Bearer " + _token(header)
        for header in (
            "[]",
            "null",
            "1",
            "{}",
            '{"alg":"none"}',
            '{"alg":"EdDSA"}',
            '{"alg":"EdDSA","kid":1}',
            '{"alg":"EdDSA","kid":"x"}',
            '{"alg":"EdDSA","kid":"x","crit":1}',
            '{"alg":"EdDSA","kid":"x","crit":[1]}',
            '{"alg":["EdDSA"],"kid":"x"}',
            '{"alg":"HS256","kid":"x"}',
        )
    ),
]
HEADERS = {
    "accept": [
        "",
        "*",
        "application/xml",
        "text/csv",
        "text/csv;q=0",
        "text/csv;q=x",
        "*/*;q=0",
        "text/html",
        "," * 50,
        "\xff",
    ],
    "accept-encoding": ["identity;q=0", "br", "\xff"],
    "authorization": AUTHORIZATIONS,
    "cookie": [
        "caravan-device",
        "caravan-device=",
        "caravan-device=\xff",
        'caravan-device="',
        "caravan-device=a.b.c",
        "=;=;=",
        "a" * 4000,
    ],
    "expect": ["100-continue", "nothing"],
    "host": ["", "[::1", "a b", "\xff", "evil.example:99999"],
    "idempotency-key": ["", " ", "\xa0", "\xad", "a" * 200, "a" * 201, "\xe9", "null"],
    "if-match": ["", "*", '"1"', 'W/"1"', '"', ",,,", '"' + "9" * 300 + '"', "\xff", "a" * 501],
    "if-none-match": ["", "*", '"1-unknown"', "\xff", "a" * 501],
    "last-event-id": ["", "-1", "a", "9" * 30],
    "range": ["bytes=0-0", "bytes=9-1", "lines=1"],
    "traceparent": [
        "",
        "00-0-0-00",
        "00-" + "0" * 32 + "-" + "0" * 16 + "-01",
        "ff-" + "a" * 32 + "-" + "b" * 16 + "-01",
        "\xff",
    ],
    "x-forwarded-for": ["", "a", "::1", ",,", "1.2.3.4, \xff"],
    "x-forwarded-proto": ["", "gopher"],
    "x-caravan-forwarder": ["", "a", "\xff"],
    "x-caravan-seconds": ["", "nan", "-1"],
    "x-request-id": ["", "a" * 129, "\xff", "a\tb"],
}
CONTENT_TYPES = [
    "",
    "text/plain",
    "application/xml",
    "application/json;charset=utf-16",
    "application/json; charset=x",
    "application/vnd.api+json",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded; charset=\xff",
    "application/x-www-form-urlencoded",
    ";",
    "\xff",
    "application/json",
]
headers = st.sampled_from([(name, value) for name, given in HEADERS.items() for value in given])


@st.composite
def spoilt(draw: st.DrawFn, content: bytes) -> bytes:
    """A body that is broken as bytes, or says something twice."""
    at = draw(st.integers(0, len(content)))
    return draw(
        st.sampled_from(
            [
                b"",
                content[:at],
                content[:at] + b"\xff" + content[at:],
                content[:at] + b"\x00" + content[at:],
                content + content,
                b"\xef\xbb\xbf" + content,
                content.decode("utf-8", "replace").encode("utf-16"),
                b"null",
                b"[]",
                b'"a"',
                b"NaN",
                b"{" * 50_000,
                b"[" * 50_000 + b"]" * 50_000,
                b'{"a":' * 3_000 + b"1" + b"}" * 3_000,
                b'{"a":' + b"9" * 5_000 + b"}",
                b'{"a":1e999}',
                content.replace(b":", b":Infinity,", 1) if content.startswith(b"{") else content,
                content[:-1] + b',"name":1,"name":2}' if content.startswith(b"{") else content,
                b"&".join([b"a=%ff", b"%00=%", b"token=%ed%a0%80", b"username=\xff", b"=&=&;"]),
                b" " * 70_000 + content,
            ]
        )
    )
