"""Many askers, one question: while one query is under way, the keys of the next askers gather and are asked for
together.

An answer is never older than its question: an asker takes part only in queries that begin after it asked. Under light
load each question is a query of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class DataLoader(Generic[K, V]):
    """`fetch` answers for a list of keys; keys that it doesn't know are absent from its answer."""

    def __init__(self, fetch: Callable[[list[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._fetch = fetch
        self._queue: list[tuple[list[K], asyncio.Future[Mapping[K, V]]]] = []
        self._fetch_task: asyncio.Task[None] | None = None

    async def load_many(self, keys: Iterable[K]) -> list[V]:
        """What is known of these keys, in their order."""
        key_list = list(keys)
        future: asyncio.Future[Mapping[K, V]] = asyncio.get_running_loop().create_future()
        self._queue.append((key_list, future))
        if self._fetch_task is None or self._fetch_task.done():
            self._fetch_task = asyncio.create_task(self._fetch_batches())
        values = await future
        return [values[key] for key in key_list if key in values]

    async def _fetch_batches(self) -> None:
        while self._queue:
            requests, self._queue = self._queue, []
            try:
                values = await self._fetch(list(dict.fromkeys(key for key_list, _ in requests for key in key_list)))
            except Exception as error:
                for _, future in requests:
                    if not future.done():
                        future.set_exception(error)
            else:
                for _, future in requests:
                    if not future.done():
                        future.set_result(values)
