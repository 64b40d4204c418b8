"""Many askers, one question: while one query is under way, the keys of the next askers gather and are asked for together.

An answer is never older than its question: an asker takes part only in queries that begin after it asked. Under light load each question is a query of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Coalesced(Generic[K, V]):
    """`fetch` answers for a list of keys; keys that it doesn't know are absent from its answer."""

    def __init__(self, fetch: Callable[[list[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._fetch = fetch
        self._gathering: list[tuple[list[K], asyncio.Future[Mapping[K, V]]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def get(self, keys: Iterable[K]) -> list[V]:
        """What is known of these keys, in their order."""
        wanted = list(keys)
        answer: asyncio.Future[Mapping[K, V]] = asyncio.get_running_loop().create_future()
        self._gathering.append((wanted, answer))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        found = await answer
        return [found[key] for key in wanted if key in found]

    async def _ask(self) -> None:
        while self._gathering:
            askers, self._gathering = self._gathering, []
            try:
                found = await self._fetch(list(dict.fromkeys(key for wanted, _ in askers for key in wanted)))
            except Exception as error:
                for _, answer in askers:
                    if not answer.done():
                        answer.set_exception(error)
            else:
                for _, answer in askers:
                    if not answer.done():
                        answer.set_result(found)
