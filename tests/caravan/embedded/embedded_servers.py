"""What tests write into the laptop's servers and read back, and which processes they are."""

import os
from pathlib import Path

import asyncpg
from redis.asyncio import Redis

from caravan.embedded import ServerUrls, paths, postgres, valkey
from tests.support import new_cluster

SECRET = new_cluster.SECRET
AS_ROOT = os.geteuid() == 0


def ignore_announcement(_: str) -> None: ...


async def write_rows(backends: ServerUrls) -> None:
    connection = await asyncpg.connect(backends.database_url)
    await connection.execute("CREATE TABLE kept (x int)")
    await connection.execute("INSERT INTO kept VALUES (42)")
    await connection.close()
    async with Redis.from_url(backends.redis_url) as client:
        await client.set("kept", "42")


async def read_rows(backends: ServerUrls) -> tuple[int, bytes | str | None]:
    connection = await asyncpg.connect(backends.database_url)
    try:
        in_database = await connection.fetchval("SELECT x FROM kept")
    finally:
        await connection.close()
    async with Redis.from_url(backends.redis_url) as client:
        return in_database, await client.get("kept")


def list_server_pids(data: Path) -> list[int]:
    found = paths.find_paths(data)
    return [server.process.pid for server in (postgres.find_running(found), valkey.find_running(found)) if server]
