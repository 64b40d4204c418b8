"""Step 3: the services of step 2, each behind the credential that only the gateway and the services know.

python docs/journey/step3_gateway/inside.py users        # or products, or orders
"""

import asyncio
import hmac
import os
import sys

from fastapi import FastAPI, Request, Response
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from docs.journey.step1_monolith.shop import confirm, serve
from docs.journey.step2_extracted import orders, products, users

HEADER = "x-internal-credential"


def read_credential() -> str:
    credential = os.environ.get("INTERNAL_CREDENTIAL", "")
    if len(credential) < 16:
        raise SystemExit("set INTERNAL_CREDENTIAL to the same 16 or more characters for the gateway and each service")
    return credential


def require_credential(app: FastAPI) -> FastAPI:
    expected = read_credential().encode()

    async def check_credential(request: Request, call_next: RequestResponseEndpoint) -> Response:
        if hmac.compare_digest(request.headers.get(HEADER, "").encode(), expected):
            return await call_next(request)
        return Response("this service answers the gateway only", 401)

    app.add_middleware(BaseHTTPMiddleware, dispatch=check_credential)
    return app


async def main(name: str) -> None:
    match name:
        case "users":
            await serve(require_credential(users.create_app()), 8081)
        case "products":
            await serve(require_credential(products.create_app()), 8082)
        case "orders":
            clients = orders.create_clients({HEADER: read_credential()})
            await serve(require_credential(orders.create_app(*clients, orders.charge_card, confirm)), 8083)
        case _:
            raise SystemExit(f"no service {name!r}; there are users, products and orders")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) == 2 else ""))
