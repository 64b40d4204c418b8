"""The Kubernetes API for the operator's own reads and writes: patches with a version, Events, Secrets, the Lease.

`kubernetes.aio` logs in, keeps the connections and makes each call. What it doesn't do is here: retries of writes too,
one deadline over all of them, lists of metadata alone, and the metric. kopf watches with the same login.
"""

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import kopf
from kubernetes.aio.client import ApiClient, ApiException, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from caravan_operator.resources import KINDS, names
from caravan_operator.resources.resource import Key, Resource
from caravan_operator.status.metrics import API_CALLS

_RETRY_SECONDS = 20.0
_LOGIN_SECONDS = 30.0
_RETRYABLE_STATUSES = frozenset({401, 429, 500, 502, 503, 504})
_TIMEOUT = aiohttp.ClientTimeout(total=15, connect=5)
_JSON = "application/json"
PAGE_SIZE = 500
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_MERGE = "application/merge-patch+json"


class ApiError(Exception):
    """The API server's answer, other than success; status 0 when there was none."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Kubernetes:
    def __init__(self, connections: int = 16) -> None:
        self._configuration = build_configuration(connections)
        self._client: ApiClient | None = None
        self._is_logged_in = False
        self._login_lock = asyncio.Lock()

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

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
        body: Any = None,
        *,
        content_type: str = _JSON,
        accept: str = _JSON,
        retry_seconds: float = _RETRY_SECONDS,
    ) -> dict[str, Any]:
        """The answer's object. `body` is a mapping or an object of the library. 429, 5xx and lost connections are
        tried again, as the server asks or with growing pauses, for `retry_seconds`; a refused login after the
        credentials were read again.
        """
        headers = {"Accept": accept} | ({"Content-Type": content_type} if body is not None else {})
        give_up_at = time.monotonic() + retry_seconds
        pause = 0.1
        while True:
            problem: Exception
            try:
                async with asyncio.timeout(max(0.5, give_up_at - time.monotonic())):
                    return await self._send_once(method, path, body, headers)
            except ApiException as error:
                problem = ApiError(error.status, _read_message(error))
                if error.status not in _RETRYABLE_STATUSES:
                    raise problem from None
                self._is_logged_in = self._is_logged_in and error.status != 401
                pause = max(pause, _read_retry_after(error))
            except (aiohttp.ClientError, ConfigException, OSError, ValueError) as error:
                problem = error
            if time.monotonic() + pause > give_up_at:
                if isinstance(problem, ApiError):
                    raise problem
                raise ApiError(
                    0, f"{method} {path}: no answer from the API server: {str(problem) or type(problem).__name__}"
                ) from problem
            await asyncio.sleep(pause * random.uniform(0.7, 1.3))
            pause = min(pause * 2, 5.0)

    async def _send_once(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> dict[str, Any]:
        """Raises ApiException; ValueError when the answer is no object."""
        client = await self._get_client()
        call = await client.param_serialize(
            method, path, header_params={**headers}, body=body, auth_settings=["BearerToken"]
        )
        answer = await client.call_api(*call, _request_timeout=_TIMEOUT)
        await answer.read()
        API_CALLS.labels(method, _get_resource_label(path), answer.status).inc()
        value: Any = client.response_deserialize(answer, {"2XX": "object"}).data
        if not isinstance(value, dict):
            raise ValueError("the answer is no object")
        return value

    async def _get_client(self) -> ApiClient:
        async with self._login_lock:
            if not self._is_logged_in:
                await log_in(self._configuration)
                self._is_logged_in = True
            if self._client is None:
                self._client = ApiClient(self._configuration)
                self._client.user_agent = "caravan-operator"
            return self._client


def build_configuration(connections: int = 16) -> Configuration:
    """The library's settings for a client, before the login. Without `trust_env` it doesn't look for a proxy in the
    environment, and for a password in ~/.netrc, at every call: that costs more CPU than the call itself.
    """
    session = {"trust_env": False, "middlewares": (_refuse_redirect,)}
    return Configuration(connection_pool_maxsize=connections, client_session_kwargs=session)


async def _refuse_redirect(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """The library follows redirects; nobody but the API server is asked, or told, anything."""
    response = await send(request)
    if "Location" in response.headers and 300 <= response.status < 400:
        response.close()
        raise aiohttp.ClientError(f"the API server redirects to {response.headers['Location'][:200]}")
    return response


async def log_in(configuration: Configuration) -> None:
    """Put the credentials into the settings: the service account's inside a cluster, whose token the library reads
    again every minute, KUBECONFIG's elsewhere. Raises LoginError naming both when there is neither.
    """
    try:
        load_incluster_config(configuration)
    except ConfigException:
        path = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
        try:
            async with asyncio.timeout(_LOGIN_SECONDS):  # a kubeconfig may name a program that logs in
                await load_kube_config(path, client_configuration=configuration, persist_config=False)
        except Exception as error:  # a malformed file gets as far as it gets: TypeError, AttributeError, YAMLError
            raise kopf.LoginError(
                f"no cluster: run inside one, or set KUBECONFIG to a kubeconfig file ({path}: {error!r})"
            ) from None


async def load_credentials() -> kopf.ConnectionInfo:
    """The same login for those who make their calls themselves. Raises LoginError."""
    configuration = build_configuration()
    await log_in(configuration)
    scheme, _, token = (await configuration.get_api_key_with_prefix("BearerToken") or "").partition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
    )


def _read_message(error: ApiException) -> str:
    """The message of the Status object that the API server answers with."""
    try:
        return str(json.loads(error.body or "{}").get("message", ""))[:400]
    except (ValueError, AttributeError):
        return str(error.reason)[:400]


def _read_retry_after(error: ApiException) -> float:
    seconds = (error.headers or {}).get("Retry-After", "0")
    return float(seconds) if seconds.isdigit() else 0.0


def _get_resource_label(path: str) -> str:
    """The kind of thing in a path, for a metric: its name must not be a label."""
    segments = path.partition("?")[0].split("/")
    if "namespaces" not in segments:
        return segments[-1]
    rest = segments[segments.index("namespaces") + 2 :]
    return "/".join([rest[0], rest[2]]) if len(rest) > 2 else rest[0] if rest else "namespaces"
