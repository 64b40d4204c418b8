"""Profiles and their administration, and what other services are told."""

from uuid import uuid4

import pytest

from caravan.errors import NotFound
from services.identity.client import GET_CUSTOMER_STATUS, GET_SESSION_STATE, CustomerStatusRequest, SessionStateRequest
from tests.services.identity.conftest import IdentityClient
from tests.support.shop import wait_until


async def test_a_stale_edit_is_refused(identity: IdentityClient) -> None:
    person = await identity.person()
    seen = await identity.me(person.access)
    first = await identity.client.patch(
        "/v1/users/me", json={"name": "Julia"}, headers=person.bearer | {"If-Match": seen.headers["etag"]}
    )
    assert first.status_code == 200
    assert first.json()["name"] == "Julia"
    assert first.headers["etag"] == '"2"'
    second = await identity.client.patch(
        "/v1/users/me", json={"name": "Livia"}, headers=person.bearer | {"If-Match": seen.headers["etag"]}
    )
    assert second.status_code == 412
    assert (await identity.me(person.access)).json()["name"] == "Julia"


async def test_an_edit_is_announced_with_its_version_and_one_that_changes_nothing_is_not(
    identity: IdentityClient,
) -> None:
    person = await identity.person()
    for name in ("Julia", "Julia", "Livia"):
        await identity.client.patch("/v1/users/me", json={"name": name}, headers=person.bearer)

    async def announced() -> list[tuple[int, str]]:
        events = [event["data"] for event in await identity.shop.read_topic("user-updated", person.id)]
        assert len(events) >= 2
        return [(event["account_version"], event["name"]) for event in events]

    assert await wait_until(announced) == [(2, "Julia"), (3, "Livia")]


@pytest.mark.parametrize("field", ["role", "email", "disabled", "id", "version"])
async def test_nobody_changes_what_is_not_theirs_to_change(identity: IdentityClient, field: str) -> None:
    person = await identity.person()
    assert (
        await identity.client.patch("/v1/users/me", json={field: "admin"}, headers=person.bearer)
    ).status_code == 422


async def test_a_disabled_user_is_out_at_once(identity: IdentityClient) -> None:
    person, operator = await identity.person(), await identity.operator()
    assert (
        await identity.client.patch(f"/v1/users/{person.id}", json={"disabled": True}, headers=operator)
    ).status_code == 200
    assert (await identity.me(person.access)).status_code == 401
    assert (await identity.refresh(person.refresh)).json()["error"] == "invalid_grant"
    refused = await identity.login(person.email)
    assert (refused.status_code, refused.json()["error_description"]) == (400, "the account is disabled")
    calls = identity.shop.get_context("identity").call
    assert not (await calls(GET_CUSTOMER_STATUS, CustomerStatusRequest(user_id=person.id))).active
    sid = (await identity.shop.get_context("identity").verifier.verify(person.access)).session
    assert not (await calls(GET_SESSION_STATE, SessionStateRequest(session=sid, subject=str(person.id)))).active
    assert await wait_until(lambda: identity.audited(person.id, "user.disabled"))

    await identity.client.patch(f"/v1/users/{person.id}", json={"disabled": False}, headers=operator)
    assert (await identity.me(person.access)).status_code == 401, "sessions that ended stay ended"
    assert (await identity.login(person.email)).status_code == 200


async def test_a_new_role_ends_the_sessions_with_the_old_one(identity: IdentityClient) -> None:
    _, person, operator = await identity.person("admin"), await identity.person("admin"), await identity.operator()
    assert (await identity.client.get("/v1/users?limit=1", headers=person.bearer)).status_code == 200
    await identity.client.patch(f"/v1/users/{person.id}", json={"role": "customer"}, headers=operator)
    assert (await identity.client.get("/v1/users?limit=1", headers=person.bearer)).status_code == 401
    assert (
        await identity.client.get("/v1/users?limit=1", headers=(await identity.sign_in(person)).bearer)
    ).status_code == 403
    (made, undone) = await wait_until(lambda: audited_twice(identity, person.id))
    assert (made["to"], undone["before"], undone["to"]) == ("admin", "admin", "customer")


async def audited_twice(identity: IdentityClient, user: object) -> list[dict[str, str]]:
    found = [entry["details"] for entry in await identity.audited(user, "role.changed")]
    assert len(found) == 2
    return found


async def test_the_last_admin_stays_admin(identity: IdentityClient) -> None:
    one, two = await identity.person("admin"), await identity.person("admin")
    database = identity.shop.get_database("identity")
    await database.fetch(
        "UPDATE account SET role = 'customer' WHERE role = 'admin' AND id <> ALL($1)", [one.id, two.id]
    )
    assert (
        await identity.client.patch(f"/v1/users/{one.id}", json={"disabled": True}, headers=two.bearer)
    ).status_code == 200
    refused = await identity.client.patch(f"/v1/users/{two.id}", json={"role": "customer"}, headers=two.bearer)
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (409, "last-admin")


async def test_the_list_is_for_admins_stable_under_inserts_and_searchable(identity: IdentityClient) -> None:
    operator = await identity.operator()
    people = [await identity.person() for _ in range(3)]
    seen: list[str] = []
    page = (await identity.client.get("/v1/users?limit=2", headers=operator)).json()
    seen += [user["id"] for user in page["items"]]
    await identity.register()
    page = (
        await identity.client.get("/v1/users", params={"limit": 2, "cursor": page["next_cursor"]}, headers=operator)
    ).json()
    seen += [user["id"] for user in page["items"]]
    assert seen[:3] == [str(person.id) for person in reversed(people)]
    assert len(set(seen)) == 4
    found = (await identity.client.get("/v1/users", params={"email": people[0].email.upper()}, headers=operator)).json()
    assert [user["id"] for user in found["items"]] == [str(people[0].id)]
    assert found["next_cursor"] is None
    assert (await identity.client.get("/v1/users", headers=people[0].bearer)).status_code == 403
    assert (await identity.client.get("/v1/users")).status_code == 401


async def test_a_user_sees_no_other_user(identity: IdentityClient) -> None:
    person, other, operator = await identity.person(), await identity.person("staff"), await identity.operator()
    assert (await identity.client.get(f"/v1/users/{person.id}", headers=person.bearer)).status_code == 200
    assert (await identity.client.get(f"/v1/users/{person.id}", headers=other.bearer)).status_code == 404
    assert (await identity.client.patch(f"/v1/users/{person.id}", json={}, headers=other.bearer)).status_code == 403
    assert (await identity.client.get(f"/v1/users/{uuid4()}", headers=operator)).status_code == 404
    assert (
        await identity.client.patch(f"/v1/users/{uuid4()}", json={"disabled": True}, headers=operator)
    ).status_code == 404
    assert (await identity.client.get("/v1/users/me", headers=operator)).status_code == 403, "a client is no user"


async def test_standing_tells_how_to_reach_a_user_and_refuses_an_unknown_one(identity: IdentityClient) -> None:
    person, calls = await identity.person(), identity.shop.get_context("identity").call
    status = await calls(GET_CUSTOMER_STATUS, CustomerStatusRequest(user_id=person.id))
    assert (status.email, status.name, status.role, status.active) == (
        person.email,
        "Zenobia",
        "customer",
        True,
    )
    with pytest.raises(NotFound):
        await calls(GET_CUSTOMER_STATUS, CustomerStatusRequest(user_id=uuid4()))
