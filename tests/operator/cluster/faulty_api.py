"""A proxy to the API server that answers a share of the calls with 429 or 503, can let a watch fall silent, and hold a
list back.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web
from caravan_operator.backends.kubernetes import load_credentials


class FaultyApi:
    def __init__(self, share: float, seed: int = 7) -> None:
        self.share = share
        self.refused_count = 0
        self.passed_count = 0
        self.watches: set[web.StreamResponse] = set()
        """Those that are open."""
        self._silent: set[web.StreamResponse] = set()
        self.withheld_plural = ""
        """The plural whose objects are not listed, except as metadata, until `release_list` is set."""
        self.release_list = asyncio.Event()
        self._random = random.Random(seed)
        self._session: aiohttp.ClientSession | None = None
        self._server = ""
        self._runner: web.AppRunner | None = None

    async def start(self, folder: Path) -> str:
        """Serve; returns the path of a kubeconfig that leads here."""
        login = await load_credentials()
        self._server = str(login.server).rstrip("/")
        self._session = aiohttp.ClientSession(
            headers=login.as_http_headers(),
            connector=aiohttp.TCPConnector(ssl=login.as_ssl_context(), limit=0),
            auto_decompress=False,
        )
        application = web.Application(client_max_size=2**24)
        application.router.add_route("*", "/{rest:.*}", self._proxy_request)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        address = self._runner.addresses[0]
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "faulty",
            "contexts": [{"name": "faulty", "context": {"cluster": "faulty", "user": "faulty"}}],
            "clusters": [{"name": "faulty", "cluster": {"server": f"http://{address[0]}:{address[1]}"}}],
            "users": [{"name": "faulty", "user": {"token": "none"}}],
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return str(path)

    def silence_watches(self) -> None:
        """The watches that are open now stay so, and nothing more comes of them, as behind a router that forgot
        them.
        """
        self._silent |= self.watches

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _proxy_request(self, request: web.Request) -> web.StreamResponse:
        if self._random.random() < self.share:
            self.refused_count += 1
            status = self._random.choice([429, 503])
            body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "message": "planted"}
            return web.json_response(body, status=status, headers={"Retry-After": "1"} if status == 429 else {})
        if (
            self.withheld_plural
            and request.path.endswith(f"/{self.withheld_plural}")
            and "PartialObjectMetadata" not in request.headers.get("Accept", "")
        ):
            await self.release_list.wait()
        self.passed_count += 1
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name in ("Accept", "Content-Type")}
        async with self._session.request(
            request.method, self._server + str(request.rel_url), data=await request.read() or None, headers=headers
        ) as upstream_response:
            response = web.StreamResponse(
                status=upstream_response.status,
                headers={"Content-Type": upstream_response.headers.get("Content-Type", "application/json")},
            )
            await response.prepare(request)
            if "watch" in request.query:
                self.watches.add(response)
            try:
                async for chunk in upstream_response.content.iter_any():
                    if response not in self._silent:
                        await response.write(chunk)
            except (ConnectionError, aiohttp.ClientError):
                pass  # the client has gone
            finally:
                self.watches.discard(response)
            return response


@asynccontextmanager
async def serve_faulty_api(share: float, folder: Path) -> AsyncIterator[tuple[FaultyApi, str]]:
    api = FaultyApi(share)
    try:
        yield api, await api.start(folder)
    finally:
        await api.stop()
