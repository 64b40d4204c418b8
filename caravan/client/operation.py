"""Operations as they are declared in their owner's `client.py` and bound to their use cases in its `main.py`, and what
a request hands down to those that it calls: its deadline and its user's token.

Knows no transport: `caller.py` asks, and `caravan/runtime/app.py` answers.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from caravan.auth import Caller, Role, TokenVerifier
from caravan.errors import Forbidden, Unauthorized

Req = TypeVar("Req", bound=BaseModel)
Res = TypeVar("Res", bound=BaseModel)

deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
"""Loop time by which the current request must be done; calls never wait longer."""

authorization: ContextVar[str | None] = ContextVar("authorization", default=None)
"""The caller's own Authorization header, passed on so that the callee sees the user's rights beside the service's
identity.
"""


async def verify_forwarded_caller(verifier: TokenVerifier, role: Role | None = None) -> Caller:
    """Whoever the calling service asks for, by the token that came along. Raises Unauthorized or Forbidden: a service's
    own token is not enough.
    """
    scheme, _, token = (authorization.get() or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("this operation needs the user's own token beside the service's")
    caller = await verifier.verify(token.strip())
    if role and not caller.has_role(role):
        raise Forbidden(f"this is for {role}; you are {caller.role}")
    return caller


@dataclass(frozen=True, eq=False)
class Operation(Generic[Req, Res]):
    """One question that a service answers for others.

    `name` is the last part of its URL and doesn't follow a rename of the constant: in a rolling upgrade callers and
    owners of two releases must agree about it. `seconds` is the longest a caller waits for it: a bound for one that
    hangs, wide enough for one that is busy. An operation whose caller can do without the answer says less.
    """

    service: str
    name: str
    request: type[Req]
    response: type[Res]
    seconds: float = 3.0
    is_repeatable: bool = True
    owner: str = ""
    """The field of the request that names the user whose things are asked for: then the caller brings that user's own
    token along, or one of staff.
    Without it the question is between services, and their tokens are all that it takes."""

    @property
    def url_path(self) -> str:
        return f"/internal/{self.service}/{self.name}"

    def bind(self, use_case: Callable[[Any, Req], Awaitable[Res]]) -> "BoundOperation":
        """With the use case of its owner that answers it: `use_case(context, request)`."""
        return BoundOperation(self, use_case)


@dataclass(frozen=True, slots=True)
class BoundOperation:
    """An operation as its owner declares it (`Service.operations`); made by `Operation.bind`, which has the types of
    the two compared.
    """

    operation: Operation[Any, Any]
    use_case: Callable[[Any, Any], Awaitable[Any]]


LocalOperation = Callable[[Any], Awaitable[Any]]
