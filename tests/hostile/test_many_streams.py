"""Many streams and many wrong passwords: they take nothing from others."""

import asyncio
import contextlib
import re
import resource
import sys
from collections import Counter
from collections.abc import AsyncIterator

import httpx2
import pytest

from caravan.clock import new_id
from tests.hostile.apart import Apart
from tests.hostile.raw_requests import SESSION_SECONDS, build_get
from tests.support.shop import wait_until


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
    opened = await asyncio.gather(*(shop.talk(build_get(path) + own + b"\r\n") for _ in range(count)))
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
