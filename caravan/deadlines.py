"""A timeout that holds: a task that goes on waiting after its cancellation, such as for a server that doesn't answer,
is cancelled again.
"""

import asyncio
from typing import Self

_CANCEL_AGAIN_SECONDS = 0.2


class Deadline:
    """`async with Deadline(seconds):` raises TimeoutError. `clear_deadline()`: no deadline from now on."""

    __slots__ = ("_cancel_count", "_earlier_cancellations", "_expires_at", "_handle", "_loop", "_task")

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._expires_at = self._loop.time() + seconds
        self._cancel_count = 0

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._earlier_cancellations = task.cancelling()
        self._handle = self._loop.call_at(self._expires_at, self._cancel_task)
        return self

    async def __aexit__(self, error_type: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._handle.cancel()
        if self._cancel_count:
            for _ in range(self._cancel_count):
                self._task.uncancel()
            if (
                self._task.cancelling() <= self._earlier_cancellations
                and error_type is not None
                and issubclass(error_type, asyncio.CancelledError)
            ):
                raise TimeoutError from error

    @property
    def has_passed(self) -> bool:
        return self._cancel_count > 0

    def clear_deadline(self) -> None:
        self._handle.cancel()

    def _cancel_task(self) -> None:
        self._cancel_count += 1
        self._task.cancel()
        self._handle = self._loop.call_later(_CANCEL_AGAIN_SECONDS, self._cancel_task)
