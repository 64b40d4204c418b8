"""A TCP proxy that a link of the shop goes through, so that the link can be cut, slow, sliced, one-way or closed."""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

CHUNK_BYTES = 65_536
SLICE_BYTES = 7
SLOW_SECONDS = 0.2
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of a socket that says goodbye with a reset."""


@dataclass
class Proxy:
    """`mode`: open, slow, sliced, one-way (what the server answers is lost) or refused. `seen` counts what it did."""

    get_target: Callable[[], tuple[str, int]]
    port: int
    mode: str = "open"
    seen: Counter[str] = field(default_factory=Counter)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server:
            self._server.close()
        self.cut()

    def cut(self) -> int:
        """Reset every connection; how many there were."""
        count = len(self._writers) // 2
        for writer in self._writers:
            _reset(writer)
        self._writers.clear()
        self.seen["cut"] += count
        return count

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "refused":
            self.seen["refused"] += 1
            _reset(writer)
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(*self.get_target())
        except OSError:
            _reset(writer)
            return
        pair = {writer, server_writer}
        self._writers |= pair
        pumps = [
            asyncio.create_task(self._pump(reader, server_writer, is_answer=False)),
            asyncio.create_task(self._pump(server_reader, writer, is_answer=True)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        self._writers -= pair
        for each in pair:
            each.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if self.mode == "one-way" and is_answer:
                    self.seen["one-way"] += len(data)
                    continue
                if self.mode == "slow":
                    self.seen["slow"] += 1
                    await asyncio.sleep(SLOW_SECONDS)
                for start in range(0, len(data), SLICE_BYTES if self.mode == "sliced" else len(data)):
                    if self.mode == "sliced":
                        writer.write(data[start : start + SLICE_BYTES])
                        self.seen["sliced"] += 1
                        await asyncio.sleep(0)
                    else:
                        writer.write(data)
                await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
