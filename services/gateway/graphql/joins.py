"""Puts what belongs to objects of one service, and is another's, into them: for all objects of a level at once.

Nothing below the root of an operation is awaited: before a root field returns, its objects get every joined value that
the selection asks for, in one call for each service and level. The fields then read plain attributes.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from services.gateway.graphql.plan import PlannedField
from services.gateway.graphql.policy import JsonObject
from services.gateway.graphql.service_calls import ServiceCalls


async def attach_joins(calls: ServiceCalls, fields: Sequence[PlannedField], value: Any) -> None:
    """`fields`: what is asked of each object. `value`: an object, a list of them, or None."""
    sources = _list_objects(value)
    if not sources:
        return
    groups: dict[str, list[PlannedField]] = {}
    for field in fields:
        groups.setdefault(field.key, []).append(field)
    await asyncio.gather(*(_attach_group(calls, group, sources) for group in groups.values()))


async def _attach_group(calls: ServiceCalls, group: Sequence[PlannedField], sources: list[JsonObject]) -> None:
    """`group`: one field, as often as it is asked for under different names."""
    key, join = group[0].key, group[0].policy.join
    if join is not None:
        try:
            values = await join.load(calls, sources)
        except Exception as error:  # raised again at each object that asks for it
            values = [error] * len(sources)
        for source, value in zip(sources, values, strict=True):
            source[key] = value
        if join.get_tag is not None:
            calls.tags.update(join.get_tag(source) for source in sources)
    children = [child for field in group for child in field.children]
    if children:
        size = max(field.size for field in group)
        below = [item for source in sources for item in _list_objects(source.get(key))[:size]]
        await attach_joins(calls, children, below)


def _list_objects(value: Any) -> list[JsonObject]:
    if isinstance(value, dict):
        return [value]
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
