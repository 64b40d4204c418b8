"""A user of an outside issuer in the whole shop: through the gateway at other services."""

import time
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx2
import pytest

from caravan.runtime import Backends
from tests.services.identity.conftest import IdentityClient
from tests.services.identity.outside_issuer import OutsideIssuer, person, run_identity, who
from tests.support.shop import wait_until

pytestmark = pytest.mark.usefixtures("restored_issuer")
SERVICES = ("gateway", "catalog", "inventory")


@pytest.fixture(scope="module")
async def identity(backends: Backends, issuer: OutsideIssuer) -> AsyncIterator[IdentityClient]:
    async with run_identity(backends, issuer.url, *SERVICES, GATEWAY_SESSION_SECONDS="0.2") as running:
        yield running


async def make_product(identity: IdentityClient, token: str) -> httpx2.Response:
    body = {
        "sku": uuid4().hex[:12].upper(),
        "name": "Camel saddle",
        "description": "A saddle",
        "category": "saddles",
        "price": {"amount": 1999, "currency": "GBP"},
    }
    return await identity.client.post("/v1/products", json=body, headers={"authorization": f"Bearer {token}"})


async def test_the_gateway_and_the_services_take_the_token_with_the_role_of_its_groups(
    identity: IdentityClient, issuer: OutsideIssuer
) -> None:
    admin, customer = await issuer.sign(**person(groups=["shop-admins"])), await issuer.sign(**person())
    made = await make_product(identity, admin)
    assert made.status_code == 201, made.text
    assert (await make_product(identity, customer)).status_code == 403
    for claims, reason in (({"aud": "another"}, "not issued for this shop"), ({"exp": 1}, "expired")):
        refused = await make_product(identity, await issuer.sign(**person(groups=["shop-admins"], **claims)))
        assert (refused.status_code, reason in refused.json()["detail"]) == (401, True)


async def test_a_user_who_is_disabled_here_is_out_within_the_session_seconds(
    identity: IdentityClient, issuer: OutsideIssuer
) -> None:
    token = await issuer.sign(**person(groups=["shop-admins"], iat=int(time.time()) - 5))
    user = await who(identity, token)
    assert (await make_product(identity, token)).status_code == 201
    path, operator = f"/v1/users/{user['id']}", await identity.operator()
    (await identity.client.patch(path, json={"disabled": True}, headers=operator)).raise_for_status()

    async def is_out() -> bool:
        return (await make_product(identity, token)).status_code == 401

    await wait_until(is_out)
