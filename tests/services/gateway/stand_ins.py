"""A stand-in service, served in the shop's process or behind a port of its own, and the shop itself behind a port."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import uvicorn
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

from caravan.discovery import HEARTBEAT_SECONDS
from caravan.errors import NotFound, ServiceUnavailable
from caravan.http import FREE_PARAMETERS, App, create_app
from caravan.runtime import Backends
from caravan.service import Service
from tests.support.shop import Shop, wait_until


class Form(BaseModel):
    name: str


@dataclass
class Pets:
    """Answers with what it was asked, streams, fails and hangs on demand."""

    name: str = "pets"
    router: APIRouter = field(default_factory=APIRouter)
    asked: int = 0
    failing: bool = False
    left: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        add = self.router.add_api_route
        add(f"/v1/{self.name}", self.echo, methods=["POST"], openapi_extra={FREE_PARAMETERS: ""})
        add(f"/v1/{self.name}/forms", self.fill, methods=["POST"])
        add(f"/v1/{self.name}/{{name}}", self.show)
        add(f"/v1/{self.name}/{{name}}/song", self.sing)
        add(f"/v1/{self.name}/{{name}}/sleep", self.sleep)
        add(f"/v1/{self.name}/{{name}}/reply", self.reply)
        add("/internal/secret", self.hide)

    def reset(self) -> None:
        self.asked, self.failing, self.left, self.released = 0, False, asyncio.Event(), asyncio.Event()

    async def echo(self, request: Request) -> dict[str, Any]:
        body = await request.body()
        peer = request.client.host if request.client else None
        return {
            "headers": list(map(list, request.headers.items())),
            "body": body.decode(),
            "peer": peer,
            "query": str(request.query_params),
        }

    async def fill(self, form: Form) -> str:
        return form.name

    async def show(self, name: str) -> dict[str, Any]:
        self.asked += 1
        if self.failing:
            raise ServiceUnavailable("the stand-in fails")
        if name == "nobody":
            raise NotFound("no such pet")
        return {"name": name}

    async def hide(self) -> None:
        self.asked += 1

    async def sing(self) -> StreamingResponse:
        async def verses() -> AsyncIterator[bytes]:
            try:
                yield b"first"
                await self.released.wait()
                yield b"last"
            finally:
                self.left.set()

        return StreamingResponse(verses(), media_type="text/event-stream")

    async def sleep(self) -> None:
        await asyncio.Event().wait()

    async def reply(self) -> Response:
        headers = {"connection": "x-private", "x-private": "1", "keep-alive": "timeout=5", "x-public": "1"}
        return Response(b"ok", headers=headers)

    def here(self) -> Service:
        return Service(self.name, routers=(self.router,))

    def app(self, backends: Backends) -> App:
        return create_app(self.name, (self.router,), SimpleNamespace(secret=backends.secret, refused=None), None)


@contextlib.asynccontextmanager
async def listening(app: Any, host: str = "127.0.0.1", http: Any = "httptools") -> AsyncIterator[str]:
    """The URL of an application on a port of its own."""
    config = uvicorn.Config(
        app,
        host=host,
        port=0,
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http=http,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())

    async def started() -> bool:
        return server.started

    await wait_until(started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def registered(shop: Shop, pets: Pets, backends: Backends) -> AsyncIterator[str]:
    """The stand-in as a service in another process, found through discovery, its routes known to the gateway."""
    discovery = shop.process.discovery

    async def heartbeat() -> None:
        while True:
            await discovery.register_services([pets.name], url)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async with listening(pets.app(backends)) as url:
        beating = asyncio.create_task(heartbeat())
        try:
            await known(shop, pets.name)
            yield url
        finally:
            beating.cancel()
            await discovery.deregister_url(url)


async def known(shop: Shop, *names: str) -> None:
    table = shop.get_context("gateway").resources.table

    async def read() -> bool:
        await table.refresh()
        return set(names).issubset(table.documents)

    await wait_until(read, every=0.1)
