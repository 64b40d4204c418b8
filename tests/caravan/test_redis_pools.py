"""Connections to Redis: one that was reset is unavailable; by TLS with certificates that may be renewed, and a failure
that names the setting.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvloop
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from caravan.redis_pools import create_pool
from caravan.runtime import Backends
from caravan.tls import CertificateFiles, complete_url
from tests.support.certificates import Authority, create_authority
from tests.support.tls_tunnel import TlsTunnel, connect_to, open_tunnel


@pytest.fixture
def tunnel(backends: Backends, authority: Authority, tmp_path: Path) -> Iterator[TlsTunnel]:
    server = authority.write_certificate(tmp_path / "server", "localhost")
    with open_tunnel(lambda: connect_to(backends.redis_url), server, asks_certificate=True) as tunnel:
        yield tunnel


def build_url(backends: Backends, tunnel: TlsTunnel, files: CertificateFiles) -> str:
    password = urlsplit(backends.redis_url).password
    return complete_url(f"rediss://:{password}@localhost:{tunnel.port}/0", files)


async def test_a_pool_uses_renewed_files_for_its_next_connection(
    backends: Backends, authority: Authority, tunnel: TlsTunnel, tmp_path: Path
) -> None:
    client = authority.write_certificate(tmp_path / "client")
    pool = create_pool(ConnectionPool, build_url(backends, tunnel, CertificateFiles.find(client)), max_connections=1)
    async with Redis.from_pool(pool) as redis:
        assert await redis.ping()
        other = create_authority("another")
        other.write_certificate(tmp_path / "server", "localhost")
        await pool.disconnect()
        with pytest.raises(
            RedisConnectionError, match=r"connecting to localhost:\d+\. CARAVAN_REDIS_URL or CARAVAN_JOBS_"
        ):
            await redis.ping()
        other.write_certificate(client)
        assert await redis.ping(), "by the very connection object that failed before"
    assert tunnel.plain_count == 0


async def test_a_plain_connection_gets_nowhere(backends: Backends, tunnel: TlsTunnel) -> None:
    plain = build_url(backends, tunnel, CertificateFiles()).replace("rediss://", "redis://")
    async with Redis.from_pool(create_pool(ConnectionPool, plain)) as redis:
        with pytest.raises(RedisConnectionError):
            await redis.ping()
    assert tunnel.plain_count > 0


def test_a_connection_that_was_reset_before_the_write_is_unavailable(backends: Backends) -> None:
    """Processes run on uvloop, whose closed transport raises RuntimeError, which no caller of Redis expects."""

    async def write() -> None:
        async with Redis.from_pool(create_pool(ConnectionPool, backends.redis_url, socket_timeout=2)) as redis:
            connection = await redis.connection_pool.get_connection()  # type: ignore[no-untyped-call]
            connection._writer.transport.abort()
            with pytest.raises(RedisConnectionError):
                await connection.send_command("PING")
            await redis.connection_pool.release(connection)
            assert await redis.ping()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(write())
