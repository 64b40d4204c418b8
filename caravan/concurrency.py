"""How the tasks of a process work together: run some at once, load in batches, and end when they are cancelled."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
R = TypeVar("R")

END_AGAIN_SECONDS = 1.0


def raise_if_cancelled(error: BaseException) -> None:
    """For a loop that goes on after any `error`: its task was cancelled, and a client library raised another error
    instead.

    aiormq raises the channel's error when both come in the same moment; Python 3.11's `wait_for` loses the one.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError from error


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel until each has ended, whatever a library makes of the first cancellation."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=END_AGAIN_SECONDS)


async def map_concurrently(
    action: Callable[[T], Awaitable[R]], items: Iterable[T], limit: int, *, on_done: Callable[[], object] | None = None
) -> list[R]:
    """The results of `action` on every item in their order, at most `limit` under way. The first failure ends all, and
    is raised as it is, not in a group, so that the caller's `except` sees its type.
    """
    slots = asyncio.Semaphore(limit)

    async def run_one(item: T) -> R:
        async with slots:
            result = await action(item)
        if on_done is not None:
            on_done()
        return result

    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run_one(item)) for item in items]
    except BaseExceptionGroup as failures:
        failure = failures.exceptions[0]
    if failure is not None:
        try:
            raise failure  # out here, where neither its cause nor its context is replaced
        finally:
            del failure  # it refers to this frame
    return [task.result() for task in tasks]


class DataLoader(Generic[K, V]):
    """Many askers, one question: while one query is under way, the keys of the next askers gather and are asked for
    together. `fetch` answers for a list of keys; keys that it doesn't know are absent from its answer.

    An answer is never older than its question: an asker takes part only in queries that begin after it asked. Under
    light load each question is a query of its own.
    """

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
