"""Makes fields of the graph from entries of a table: a name, typed arguments, and the resolver that they share."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

import strawberry
from strawberry.types import Info

from services.gateway.graphql.policy import Policy

PARENT: Any = strawberry.Parent[Any]  # type: ignore[misc]  # generic to the library, an alias to mypy
Resolve = Callable[[Info[Any, Any], dict[str, Any]], Awaitable[Any]]


def make_field(
    graphql_type: Any,
    arguments: Mapping[str, Any],
    defaults: Mapping[str, Any],
    resolve: Resolve,
    policy: Policy,
    description: str,
) -> Any:
    """`arguments`: the annotation of each by its name; one that is a word of Python ends with an underscore. Those with
    a default may be left out.
    """

    async def resolve_field(root: Any, info: Any, **given: Any) -> Any:
        return await resolve(info, {name.removesuffix("_"): value for name, value in given.items()})

    parameters = [inspect.Parameter("root", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=PARENT)]
    parameters.append(inspect.Parameter("info", inspect.Parameter.KEYWORD_ONLY, annotation=Info))
    for name, annotation in arguments.items():
        parameters.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=Annotated[annotation, strawberry.argument(name=name.removesuffix("_"))]
                if name.endswith("_")
                else annotation,
                default=defaults.get(name, inspect.Parameter.empty),
            )
        )
    resolve_field.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    resolve_field.__annotations__ = {item.name: item.annotation for item in parameters}
    return strawberry.field(
        resolver=resolve_field, graphql_type=graphql_type, description=description, metadata=policy.as_metadata()
    )
