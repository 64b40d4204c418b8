"""A TLS server before one that speaks none, such as the Postgres and the Redis from wheels: it takes TLS alone, and
counts what else was tried.

A thread for each connection: asyncio loses what a client sends at once when its server begins TLS later.
"""

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_SSL_REQUEST = struct.pack("!II", 8, 80877103)
"""With what a client of Postgres asks for TLS."""
_POLL_SECONDS = 0.2
_CONNECT_SECONDS = 10


@dataclass
class TlsTunnel:
    connect: Callable[[], socket.socket]
    certificates: Path
    """Read for each connection."""
    is_postgres: bool
    asks_certificate: bool
    port: int = 0
    tls_count: int = 0
    plain_count: int = 0
    """Connections that did not begin with TLS."""
    is_open: bool = True
    threads: list[threading.Thread] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        while self.is_open:
            with contextlib.suppress(TimeoutError):
                client, _ = listener.accept()
                thread = threading.Thread(target=self._serve_one, args=[client])
                self.threads.append(thread)
                thread.start()

    def _serve_one(self, client: socket.socket) -> None:
        client.settimeout(_CONNECT_SECONDS)
        with client, contextlib.suppress(OSError):
            if self.is_postgres:
                if client.recv(len(_SSL_REQUEST)) != _SSL_REQUEST:
                    self.plain_count += 1
                    return
                client.sendall(b"S")
            elif client.recv(1, socket.MSG_PEEK) != b"\x16":  # the first byte of a TLS handshake
                self.plain_count += 1
                return
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.certificates / "ca.crt")
            context.load_cert_chain(self.certificates / "tls.crt", self.certificates / "tls.key")
            if self.asks_certificate:
                context.verify_mode = ssl.CERT_REQUIRED
            with context.wrap_socket(client, server_side=True) as secure, self.connect() as upstream:
                self.tls_count += 1
                while self.is_open and _exchange(secure, upstream):
                    pass


def _exchange(secure: ssl.SSLSocket, upstream: socket.socket) -> bool:
    """What has arrived on either side goes to the other; False at the end of one."""
    arrived = [secure] if secure.pending() else select.select([secure, upstream], [], [], _POLL_SECONDS)[0]
    for source in arrived:
        data = source.recv(65536)
        if not data:
            return False
        (upstream if source is secure else secure).sendall(data)
    return True


@contextmanager
def open_tunnel(
    connect: Callable[[], socket.socket],
    certificates: Path,
    *,
    is_postgres: bool = False,
    asks_certificate: bool = False,
) -> Iterator[TlsTunnel]:
    """On a free port of 127.0.0.1. Postgres begins its TLS by a request of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_POLL_SECONDS)
        tunnel = TlsTunnel(connect, certificates, is_postgres, asks_certificate, listener.getsockname()[1])
        thread = threading.Thread(target=tunnel.serve, args=[listener])
        thread.start()
        try:
            yield tunnel
        finally:
            tunnel.is_open = False
            for each in (thread, *tunnel.threads):
                each.join()


def connect_to(url: str) -> socket.socket:
    """To the server of a URL; of Postgres also by its socket, as `?host=/folder&port=`."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    if "host" in query:
        client = socket.socket(socket.AF_UNIX)
        client.connect(f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}")
        return client
    return socket.create_connection((parts.hostname, parts.port), _CONNECT_SECONDS)
