"""Operations as they are declared, and the user's own token that is asked for beside a service's."""

from typing import Any

import pytest
from pydantic import BaseModel

from caravan.auth import Role, TokenVerifier
from caravan.client import Operation, authorization, verify_forwarded_caller
from caravan.clock import new_id
from caravan.errors import Forbidden, Unauthorized
from tests.support.shop import URL, Issuer


class Question(BaseModel):
    text: str


class Answer(BaseModel):
    text: str


def test_its_path_is_made_of_its_declared_name_whatever_the_constant_is_called() -> None:
    renamed = Operation("pets", "ask-name", Question, Answer)
    assert renamed.url_path == "/internal/pets/ask-name"


def test_two_declarations_of_the_same_name_are_two_operations() -> None:
    """They are keys of what a process can answer itself."""
    assert len({Operation("pets", "ask", Question, Answer), Operation("pets", "ask", Question, Answer)}) == 2


async def test_it_is_bound_to_the_use_case_that_answers_it() -> None:
    async def answer(context: str, question: Question) -> Answer:
        return Answer(text=f"{context} {question.text}")

    bound = Operation("pets", "ask", Question, Answer).bind(answer)
    assert await bound.use_case("context", Question(text="why")) == Answer(text="context why")


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def verifier(issuer: Issuer) -> TokenVerifier:
    async def fetch_keys(_: str) -> dict[str, Any]:
        return {"issuer": URL, "keys": [dict(issuer.key.as_dict(private=False))]}

    return TokenVerifier(fetch_keys)


async def test_the_caller_is_the_user_whose_token_came_along(issuer: Issuer, verifier: TokenVerifier) -> None:
    user = new_id()
    authorization.set(f"bearer  {issuer.issue_token('staff', user)}")
    caller = await verify_forwarded_caller(verifier, "staff")
    assert (caller.user_id, caller.role) == (user, "staff")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer not.a.token"])
async def test_without_a_users_token_it_is_refused(header: str | None, verifier: TokenVerifier) -> None:
    authorization.set(header)
    with pytest.raises(Unauthorized):
        await verify_forwarded_caller(verifier)


@pytest.mark.parametrize(("role", "required"), [("customer", "staff"), ("staff", "admin"), ("service", "customer")])
async def test_a_role_that_is_not_enough_is_forbidden(
    role: str, required: Role, issuer: Issuer, verifier: TokenVerifier
) -> None:
    authorization.set(f"Bearer {issuer.issue_token(role)}")
    with pytest.raises(Forbidden, match=f"this is for {required}; you are {role}"):
        await verify_forwarded_caller(verifier, required)
