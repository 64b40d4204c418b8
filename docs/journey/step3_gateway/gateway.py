"""Step 3: one address for clients. What it doesn't list can't be reached from outside, and the rate limit is set here,
once.

python docs/journey/step3_gateway/gateway.py
"""

import asyncio
import os
from collections.abc import Awaitable, Callable

import httpx2
from fastapi import FastAPI, HTTPException, Request, Response
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from docs.journey.step1_monolith.shop import serve
from docs.journey.step3_gateway.inside import HEADER, read_credential

SERVICE_URLS = {
    name: os.environ.get(f"{name.upper()}_URL", f"http://127.0.0.1:{port}")
    for name, port in (("users", 8081), ("products", 8082), ("orders", 8083))
}
ROUTES = (
    ("POST", "/users", "users"),
    ("GET", "/products/{sku}", "products"),
    ("POST", "/orders", "orders"),
    ("GET", "/orders", "orders"),
)
RESPONSE_SECONDS = 20
"""Longer than a service waits for another: the one that fails should be the one to say so."""


def create_app(per_minute: int) -> FastAPI:
    app = FastAPI(title="Gateway", docs_url=None, redoc_url=None, openapi_url=None)
    http = httpx2.AsyncClient(headers={HEADER: read_credential()}, timeout=RESPONSE_SECONDS)
    limiter, limit = MovingWindowRateLimiter(MemoryStorage()), RateLimitItemPerMinute(per_minute)

    async def check_rate(request: Request) -> None:
        client = request.client.host if request.client else ""
        if not await limiter.hit(limit, client):
            raise HTTPException(429, f"more than {per_minute} requests in a minute", {"Retry-After": "60"})

    def create_forwarder(service: str) -> Callable[[Request], Awaitable[Response]]:
        async def forward(request: Request) -> Response:
            await check_rate(request)
            try:
                response = await http.request(
                    request.method,
                    SERVICE_URLS[service] + request.scope["raw_path"].decode("latin-1"),
                    content=await request.body(),
                    headers={"content-type": request.headers.get("content-type", "application/json")},
                )
            except httpx2.TransportError as error:
                raise HTTPException(503, f"{service} can't be reached: {type(error).__name__}") from error
            return Response(response.content, response.status_code, media_type=response.headers.get("content-type"))

        return forward

    for method, path, service in ROUTES:
        app.add_api_route(path, create_forwarder(service), methods=[method])
    return app


if __name__ == "__main__":
    asyncio.run(serve(create_app(int(os.environ.get("PER_MINUTE", "60"))), 8080))
