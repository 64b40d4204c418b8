"""The Kubernetes API for the operator's own reads and writes, with kopf's login: patches with a version, Events,
Secrets, the Lease.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
import kopf

from caravan_operator.resources import KINDS, names
from caravan_operator.resources.resource import Key, Resource
from caravan_operator.status.metrics import API_CALLS

_LOGIN_SECONDS = 60.0
_RETRY_SECONDS = 20.0
_RETRYABLE_STATUSES = frozenset({429, 500, 502, 503, 504})
_JSON = "application/json"
PAGE_SIZE = 500
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_MERGE = "application/merge-patch+json"


class ApiError(Exception):
    """The API server's answer, other than success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Kubernetes:
    def __init__(self, connections: int = 16) -> None:
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._server = ""
        self._login_at = -_LOGIN_SECONDS

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str) -> dict[str, Any]:
        return await self.request("GET", path)

    async def list_metadata(
        self, group: str, version: str, plural: str, namespace: str = ""
    ) -> AsyncIterator[dict[str, Any]]:
        """The metadata of every object of a kind, page by page; none if the kind isn't installed. Without a namespace:
        of the whole cluster.
        """
        path = f"/apis/{group}/{version}/" if group else f"/api/{version}/"
        path += f"namespaces/{namespace}/{plural}?limit={PAGE_SIZE}" if namespace else f"{plural}?limit={PAGE_SIZE}"
        token = ""
        while True:
            try:
                answer = await self.request(
                    "GET", path + (f"&continue={quote(token)}" if token else ""), accept=_METADATA
                )
            except ApiError as error:
                if error.status == 404:
                    return
                raise
            for item in answer["items"] or ():
                yield item["metadata"]
            token = answer["metadata"].get("continue", "")
            if not token:
                return

    async def patch(self, resource: Resource, change: Mapping[str, Any], *, status: bool = False) -> Resource:
        """Merge patch of the resource, or of its status, at the version that was read: ApiError 409 when it
        has changed since.
        """
        kind = KINDS[resource.key.kind]
        metadata = {**change.get("metadata", {}), "resourceVersion": resource.resource_version, "uid": resource.uid}
        path = self.build_path(resource.key) + ("/status" if status else "")
        answer = await self.request("PATCH", path, {**change, "metadata": metadata}, content_type=_MERGE)
        return Resource.from_body(kind.name, answer)

    def build_path(self, key: Key) -> str:
        kind = KINDS[key.kind]
        return names.build_path("apis", kind.group, kind.version, "namespaces", key.namespace, kind.plural, key.name)

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        content_type: str = _JSON,
        accept: str = _JSON,
        retry_seconds: float = _RETRY_SECONDS,
    ) -> dict[str, Any]:
        """The answer's object. 429, 5xx and lost connections are tried again, as the server asks or with growing
        pauses, for `retry_seconds`.
        """
        headers = {"Accept": accept} | ({"Content-Type": content_type} if body is not None else {})
        give_up_at = time.monotonic() + retry_seconds
        pause = 0.1
        while True:
            problem: Exception
            try:
                async with asyncio.timeout(max(0.5, give_up_at - time.monotonic())):
                    status, retry_after, answer = await self._send_once(method, path, body, headers)
                if status < 300:
                    return answer
                problem = ApiError(status, str(answer.get("message", ""))[:400])
                if status == 401:
                    self._login_at = -_LOGIN_SECONDS
                elif status not in _RETRYABLE_STATUSES:
                    raise problem
                pause = max(pause, retry_after)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                problem = error
            if time.monotonic() + pause > give_up_at:
                if isinstance(problem, ApiError):
                    raise problem
                raise ApiError(
                    0, f"{method} {path}: no answer from the API server: {problem or type(problem).__name__}"
                ) from problem
            await asyncio.sleep(pause * random.uniform(0.7, 1.3))
            pause = min(pause * 2, 5.0)

    async def _send_once(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> tuple[int, float, dict[str, Any]]:
        session = await self._get_session()
        async with session.request(
            method, self._server + path, json=body, headers=headers, allow_redirects=False
        ) as response:
            API_CALLS.labels(method, _get_resource_label(path), response.status).inc()
            answer = await response.json(content_type=None) if response.status != 204 else {}
            retry_after = response.headers.get("Retry-After", "0")
            return (
                response.status,
                float(retry_after) if retry_after.isdigit() else 0.0,
                answer if isinstance(answer, dict) else {},
            )

    async def _get_session(self) -> aiohttp.ClientSession:
        """A session with the current credentials: a service account's token is a file that is replaced every hour."""
        if self._session is not None and time.monotonic() - self._login_at < _LOGIN_SECONDS:
            return self._session
        login = load_credentials()
        self._server = (login.server or "").rstrip("/")
        self._login_at = time.monotonic()
        if self._session is None:
            tls = await asyncio.to_thread(login.as_ssl_context)
            connector = aiohttp.TCPConnector(limit=self._connections, ssl=tls)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=15, connect=5)
            )
        self._session.headers.update(login.as_http_headers())
        return self._session


def load_credentials() -> kopf.ConnectionInfo:
    """The service account's inside a cluster, KUBECONFIG's elsewhere. Raises LoginError naming both when there is
    neither.
    """
    settings = kopf.OperatorSettings()
    login = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if login is None:
        raise kopf.LoginError("no cluster: run inside one, or set KUBECONFIG to a kubeconfig file")
    return login


def _get_resource_label(path: str) -> str:
    """The kind of thing in a path, for a metric: its name must not be a label."""
    segments = path.partition("?")[0].split("/")
    if "namespaces" not in segments:
        return segments[-1]
    rest = segments[segments.index("namespaces") + 2 :]
    return "/".join([rest[0], rest[2]]) if len(rest) > 2 else rest[0] if rest else "namespaces"
