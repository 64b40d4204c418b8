"""An API server that answers as a test says, and objects as it would send them."""

import asyncio
from typing import Any

from aiohttp import web

PATH = "/apis/messaging.caravan.dev/v1alpha1/namespaces/shop/kafkatopics/orders"
EVENTS = "POST /api/v1/namespaces/shop/events"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/shop/leases"


class Script:
    """An API server that answers as the test says: the answers of a call in their order, the last one again and
    again.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[str, Any, dict[str, str]]] = []
        self.location = ""
        """Where redirects lead."""
        self.silent_for = 0.0
        """Seconds before each answer."""
        self._answers: dict[str, list[tuple[int, Any]]] = {EVENTS: [(201, {})]}

    def set_answers(self, call: str, *answers: tuple[int, Any]) -> None:
        self._answers[call] = [*answers]

    def list_requests(self, call: str) -> list[tuple[Any, dict[str, str]]]:
        """Bodies and headers of a call."""
        return [(body, headers) for received, body, headers in self.requests if received == call]

    async def __call__(self, request: web.Request) -> web.Response:
        call = f"{request.method} {request.path}"
        self.requests.append((call, await request.json() if request.can_read_body else None, dict(request.headers)))
        answers = self._answers[call]
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        await asyncio.sleep(self.silent_for)
        headers = {"Location": self.location} if self.location and status in range(300, 400) else {}
        return web.json_response(body, status=status, headers=headers)


def build_object(version: str = "2") -> dict[str, Any]:
    meta = {
        "namespace": "shop",
        "name": "orders",
        "uid": "uid-shop-orders",
        "resourceVersion": version,
        "creationTimestamp": "2030-01-01T00:00:00Z",
    }
    return {"metadata": meta, "spec": {"connectionRef": {"name": "broker"}, "partitions": 3}}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
