"""One dedicated connection per database and process: holds advisory locks (who relays, who consumes) and listens for
notifications.

When the connection is lost so are its locks; another replica takes over, and the inbox makes a late duplicate harmless.
Listeners are woken then, to look for themselves. Behind a pooler no notification arrives, so nobody listens or
notifies; and a transaction is open while locks are held.
"""

import asyncio
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncpg

from caravan.database import CONNECTION_LOST, PIN, WITHOUT_SYNC_COMMIT, is_pooled, open_connection

_FAMILY = 0x43
"""Of our advisory locks."""


class Leadership:
    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._connection: asyncpg.Connection | None = None
        self._led_tasks: set[str] = set()
        self._lock = asyncio.Lock()
        self._listeners: list[tuple[str, Callable[[str], None]]] = []
        self._tried_at: dict[str, float] = {}
        self._pooled = True

    @property
    def receives_notifications(self) -> bool:
        """Whether notifications arrive. Behind a pooler they don't, and whoever waits must poll."""
        return not self._pooled and self._connection is not None and not self._connection.is_closed()

    def choose_poll_seconds(self, notified_seconds: float, unnotified_seconds: float) -> float:
        """Seconds between two looks of somebody who is woken by notifications, as long as they arrive."""
        return notified_seconds if self.receives_notifications else unnotified_seconds

    async def try_lead(self, task: str) -> bool:
        """Whether this process is the one for a task; tries to become it, at most twice a second."""
        connection = await self._ensure_connection()
        if task in self._led_tasks:
            return True
        now = asyncio.get_running_loop().time()
        if now - self._tried_at.get(task, -1.0) < 0.5:
            return False
        self._tried_at[task] = now
        async with self._lock:
            if connection.is_closed():
                return False
            if await self._ask(connection, "pg_try_advisory_lock", task):
                self._led_tasks.add(task)
            await self._unpin(connection)
        return task in self._led_tasks

    async def release(self, task: str) -> None:
        if task in self._led_tasks and self._connection is not None:
            async with self._lock:
                try:
                    await self._ask(self._connection, "pg_advisory_unlock", task)
                finally:
                    self._led_tasks.discard(task)
                    self._tried_at.pop(task, None)  # nobody was in its way: it may have the task again at once
                await self._unpin(self._connection)

    async def _ask(self, connection: asyncpg.Connection, function: str, task: str) -> bool:
        # Numbers of our own in the text, and the answer by the number of rows: a statement with parameters leaves its
        # portal open, and with it a snapshot, until the transaction ends.
        query = f"SELECT WHERE {function}({_FAMILY}, {zlib.crc32(f'{self._name}:{task}'.encode()) - 2**31})"
        if self._pooled and not connection.is_in_transaction():
            query = f"{PIN}; {query}"
        try:
            return bool(await connection.execute(query) == "SELECT 1")
        except BaseException:
            if self._pooled:  # failed or unfinished: nobody may get this session with our locks
                connection.terminate()
            raise

    async def _unpin(self, connection: asyncpg.Connection) -> None:
        """Give the session back to the pooler when no lock needs it."""
        if self._pooled and not self._led_tasks:
            try:
                await connection.execute("ROLLBACK")
            except BaseException:
                connection.terminate()
                raise

    async def listen(self, channel: str, callback: Callable[[str], None]) -> None:
        """Call back with the payload of each notification of others, also after a reconnect, and with an empty one when
        the connection was lost. A hint: what is lost must be covered by a poll.
        """
        connection = await self._ensure_connection()
        async with self._lock:
            self._listeners.append((channel, callback))
            if not self._pooled:
                await connection.add_listener(channel, _make_listener(callback))

    async def notify(self, channel: str, payload: str = "") -> None:
        connection = await self._ensure_connection()
        if self._pooled:
            return
        async with self._lock:
            await connection.execute(f"SELECT pg_notify($1, $2) WHERE {WITHOUT_SYNC_COMMIT}", channel, payload)

    async def _ensure_connection(self) -> asyncpg.Connection:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        async with self._lock:
            if self._connection is None or self._connection.is_closed():
                self._led_tasks.clear()
                connection = await open_connection(
                    self._url,
                    command_timeout=10,
                    timeout=10,
                    server_settings={"application_name": f"caravan {self._name} leadership"},
                )
                self._pooled = await is_pooled(connection)
                for channel, callback in [] if self._pooled else self._listeners:
                    await connection.add_listener(channel, _make_listener(callback))
                connection.add_termination_listener(self._wake_listeners)
                self._connection = connection
            return self._connection

    def _wake_listeners(self, _: Any) -> None:
        for _, callback in self._listeners:
            callback("")

    async def close(self) -> None:
        self._listeners.clear()
        if self._connection is not None:
            with suppress(*CONNECTION_LOST):
                await self._connection.close(timeout=2)


def _make_listener(callback: Callable[[str], None]) -> Callable[..., None]:
    def forward_payload(connection: Any, sender: int, _: str, payload: object) -> None:
        if sender != connection.get_server_pid():  # the sender knows it
            callback(str(payload))

    return forward_payload
