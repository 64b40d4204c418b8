"""A deadline that holds: what is cancelled and goes on waiting, such as for a server that doesn't answer, is cancelled again."""

import asyncio
from typing import Self

AGAIN_SECONDS = 0.2


class Deadline:
    """`async with Deadline(seconds):` raises TimeoutError. `lift()`: no deadline from now on."""

    __slots__ = ("_before", "_cancelled", "_handle", "_loop", "_task", "_when")

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._when = self._loop.time() + seconds
        self._cancelled = 0

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._before = task.cancelling()
        self._handle = self._loop.call_at(self._when, self._cancel)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._handle.cancel()
        if self._cancelled:
            for _ in range(self._cancelled):
                self._task.uncancel()
            if self._task.cancelling() <= self._before and kind is not None and issubclass(kind, asyncio.CancelledError):
                raise TimeoutError from error

    @property
    def passed(self) -> bool:
        return self._cancelled > 0

    def lift(self) -> None:
        self._handle.cancel()

    def _cancel(self) -> None:
        self._cancelled += 1
        self._task.cancel()
        self._handle = self._loop.call_later(AGAIN_SECONDS, self._cancel)
