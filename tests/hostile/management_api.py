"""A management API of RabbitMQ that answers what a test says, and the operator's client of it."""

import base64
from dataclasses import replace
from typing import Any

from aiohttp import web
from caravan_operator.backends import logins
from caravan_operator.backends.rabbitmq import RabbitMQ
from caravan_operator.resources.kinds import SERVERS_ANNOTATION

from tests.operator.resources import make_resource

SECRET = "the-password-of-somebody"


OVERVIEW = {"rabbitmq_version": "4.1.0", "cluster_name": "rabbit@one"}


class Hostile:
    """A management API; `answers` are functions by path, `asked` what it was sent."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.answers: dict[str, Any] = {
            "/api/overview": OVERVIEW,
            "/api/health/checks/alarms": {"status": "ok"},
            "/api/whoami": {"name": "u"},
        }

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.rel_url.raw_path, dict(request.headers)))
        answer = self.answers.get(request.rel_url.raw_path, 404)
        if callable(answer):
            return await answer(request)  # type: ignore[no-any-return]
        return (
            web.json_response({"reason": "INTERNAL-WORDS"}, status=answer)
            if isinstance(answer, int)
            else web.json_response(answer)
        )


class Kubernetes:
    """An API server with one Secret."""

    def __init__(self, servers: str | None, **values: str) -> None:
        annotations = {} if servers is None else {SERVERS_ANNOTATION: servers}
        data = {key.replace("_", "."): base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.secret = {"metadata": {"annotations": annotations}, "data": data}
        self.asked: list[str] = []

    async def get(self, path: str) -> dict[str, Any]:
        self.asked.append(path)
        return self.secret


def connection(url: str, **spec: Any) -> Any:
    return make_resource(
        "RabbitMQConnection", "rabbit", managementUrl=url, allowInsecure=True, secretRef={"name": "login", **spec}
    )


async def open_rabbit(hostile: Hostile, **spec: Any) -> RabbitMQ:
    resource = replace(connection(hostile.url), spec={**connection(hostile.url).spec, **spec})
    api: Any = Kubernetes(hostile.url, username="u", password=SECRET)
    client = await logins.connect_broker(resource, await logins.fetch_secrets(api, resource), lambda: None)
    assert isinstance(client, RabbitMQ)
    return client


def answer_with(body: bytes, **headers: str) -> Any:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json", headers=headers)

    return answer
