"""How the functions behind routes get their service's context: `context: Injected[OrdersContext]`."""

from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request

C = TypeVar("C")


async def get_context(request: Request) -> Any:
    """The context that `create_app` was given."""
    return request.app.state.context


Injected = Annotated[C, Depends(get_context)]
