"""A program that holds a data folder until it is killed; run by the tests as a process of its own."""

import asyncio
import signal
import sys
from pathlib import Path

from caravan import embedded


async def lock_folder(data: Path, secret: str) -> None:
    async with embedded.start(data, secret=secret, announce=lambda _: None):
        print("ready", flush=True)
        await asyncio.sleep(600)


if __name__ == "__main__":
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # who was started in the background inherits that it is ignored
    asyncio.run(lock_folder(Path(sys.argv[1]), "test-secret-test-secret-test-secret-0"))
