"""The context of each service of a process: what it has of its own, and how its operations are reached from here and
from elsewhere.
"""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from caravan.auth import issue_internal_token
from caravan.client import Operation
from caravan.clock import new_id
from caravan.derivation import derive_secret
from caravan.runtime import Backends
from caravan.service import PeriodicTask, Service, ServiceContext
from tests.support.shop import Shop, run_services


class Question(BaseModel):
    user_id: UUID


class Answer(BaseModel):
    service: str


ASK = Operation("pets", "ask", Question, Answer)
ASK_OWN = Operation("pets", "ask-own", Question, Answer, owner="user_id")


async def answer(context: ServiceContext[Any, Any], _: Question) -> Answer:
    return Answer(service=context.service)


async def rest(_: Any) -> bool:
    return False


PETS = Service(
    "pets",
    operations=(ASK.bind(answer), ASK_OWN.bind(answer)),
    periodic_tasks=(PeriodicTask("feeding", 3600, rest),),
)


@pytest.fixture(scope="module")
async def shop(backends: Backends) -> AsyncIterator[Shop]:
    async with run_services(backends, "shipping", extra_services=(PETS,)) as running:
        yield running


def test_a_service_has_its_databases_and_one_without_any_records_no_refusals(shop: Shop) -> None:
    pets, shipping = shop.get_context("pets"), shop.get_context("shipping")
    assert (pets.databases, pets.refused, pets.settings) == ({}, None, None)
    assert shipping.database is next(iter(shipping.databases.values()))
    assert shipping.refused is shop.process.app.refused["shipping"]
    assert pets.redis is shipping.redis, "what can be shared is"


async def test_in_the_process_an_operation_is_its_use_case_with_the_owners_context(shop: Shop) -> None:
    request = Question(user_id=new_id())
    for operation in (ASK, ASK_OWN):
        assert await shop.get_context("shipping").call(operation, request) == Answer(service="pets")


async def ask_from_elsewhere(shop: Shop, backends: Backends, operation: Any, user_id: UUID, **headers: str) -> int:
    token = issue_internal_token(derive_secret(backends.secret, "internal"), "shipping", "pets")
    response = await shop.client.post(
        operation.url_path,
        content=Question(user_id=user_id).model_dump_json(),
        headers={"authorization": token, **headers},
    )
    return response.status_code


async def test_from_elsewhere_what_is_a_users_takes_the_users_own_token_too(shop: Shop, backends: Backends) -> None:
    user = new_id()
    own, other = (shop.issue_headers("customer", who)["authorization"] for who in (user, new_id()))
    assert await ask_from_elsewhere(shop, backends, ASK, user) == 200
    statuses = [
        await ask_from_elsewhere(shop, backends, ASK_OWN, user, **({"x-user-authorization": token} if token else {}))
        for token in ("", other, own)
    ]
    assert statuses == [401, 403, 200]


def test_each_service_answers_for_its_own_dead_letters(shop: Shop) -> None:
    paths = shop.process.app.operations.keys()
    assert {f"/internal/{name}/failures" for name in ("pets", "shipping")} <= paths


def test_a_periodic_task_is_woken_by_its_name_and_a_name_that_nobody_has_wakes_nothing(shop: Shop) -> None:
    event = shop.process._wake_events["pets.feeding"]
    shop.get_context("shipping").wake("feeding")
    shop.get_context("pets").wake("nothing")
    assert not event.is_set()
    shop.get_context("pets").wake("feeding")
    assert event.is_set()
