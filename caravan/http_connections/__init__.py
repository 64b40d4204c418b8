"""The HTTP/1.1 connections between services: kept open, written to once for each request, and read by the parser that
the server uses, too.

They are a transport of httpx2, whose own costs a request four times as much CPU as all the rest of the client
(ADR 32). What they leave out, services do not do: HTTP/2, proxies, requests whose length is not known.
"""

from caravan.http_connections.pool import IDLE_SECONDS, KeptConnections

__all__ = ["IDLE_SECONDS", "KeptConnections"]
