"""Draws invoices in a process of its own: 50 ms of computing each would hold up everything else on the event loop."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson

from services.payments.drawing import LENGTH

DRAW_SECONDS = 30.0
"""Longest drawing of one invoice, the start of the process included."""
IDLE_SECONDS = 60.0
LARGEST = 64 * 1024 * 1024


class Drawer:
    """`services.payments.drawing` as a program: started by the first bill, ended when it had none for a while."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._ending: asyncio.TimerHandle | None = None

    async def draw(self, bills: Sequence[Mapping[str, Any]]) -> list[bytes | str]:
        """For each bill its PDF, or why there is none."""
        async with self._turn:
            if self._ending is not None:
                self._ending.cancel()
            try:
                return [await self._one(bill) for bill in bills]
            finally:
                self._ending = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._end)

    async def _one(self, bill: Mapping[str, Any]) -> bytes | str:
        try:
            async with asyncio.timeout(DRAW_SECONDS):
                process = await self._running()
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write(orjson.dumps({name: value for name, value in bill.items() if name != "pdf"}, default=str) + b"\n")
                await process.stdin.drain()
                (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
                content = await process.stdout.readexactly(min(abs(length), LARGEST))
                return content if length > 0 else content.decode()
        except (OSError, EOFError, TimeoutError) as error:
            self._end()
            return f"the drawing process gave no answer: {type(error).__name__}"
        except BaseException:
            self._end()  # its answer would be taken for that to the next bill
            raise

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.payments.drawing", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()

    async def close(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
        process = self._process
        self._end()
        if process is not None:
            await process.wait()
