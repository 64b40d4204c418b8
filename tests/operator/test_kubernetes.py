"""The operator's calls of the Kubernetes API: what the library doesn't do by itself, and the login.

The writes that the controller makes through it are in `test_wire.py`.
"""

import asyncio
import datetime
import json
import time
from pathlib import Path
from typing import Self

import kopf
import pytest
import yaml
from caravan_operator.backends import kubernetes as module
from caravan_operator.backends.kubernetes import ApiError, Kubernetes, build_configuration, load_credentials, log_in
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import incluster_config
from prometheus_client import REGISTRY

from tests.operator.api_script import Script


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_refusals_of_the_moment_are_tried_again(server: Script, kubernetes: Kubernetes, method: str) -> None:
    server.set_answers(f"{method} /x", (429, {}), (503, {}), (200, {"found": 1}))
    body = None if method in ("GET", "DELETE") else {"sent": 1}
    assert await kubernetes.request(method, "/x", body) == {"found": 1}
    assert [sent for sent, _ in server.list_requests(f"{method} /x")] == [body] * 3


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
async def test_a_refusal_that_stays_is_told_at_once(server: Script, kubernetes: Kubernetes, status: int) -> None:
    server.set_answers("POST /x", (status, {"message": "no such luck"}))
    with pytest.raises(ApiError, match=f"^{status}: no such luck$") as refused:
        await kubernetes.request("POST", "/x", {})
    assert refused.value.status == status
    assert len(server.list_requests("POST /x")) == 1


async def test_patience_ends_with_the_servers_answer(server: Script, kubernetes: Kubernetes) -> None:
    server.set_answers("GET /x", (503, {"message": "too busy"}))
    with pytest.raises(ApiError, match="too busy"):
        await kubernetes.request("GET", "/x", retry_seconds=0.5)


async def test_a_server_that_never_answers_is_given_up_in_time(server: Script, kubernetes: Kubernetes) -> None:
    server.set_answers("GET /x", (200, {}))
    server.silent_for = 3.0
    began = time.monotonic()
    with pytest.raises(ApiError, match=r"GET /x: no answer from the API server: TimeoutError") as silent:
        await kubernetes.request("GET", "/x", retry_seconds=1)
    assert silent.value.status == 0
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("answer", ["a page of a proxy", [1, 2], None])
async def test_an_answer_that_is_no_object_is_no_answer(server: Script, kubernetes: Kubernetes, answer: object) -> None:
    server.set_answers("GET /x", (200, answer), (200, {"found": 1}))
    assert await kubernetes.get("/x") == {"found": 1}


async def test_a_redirect_leads_nowhere(server: Script, kubernetes: Kubernetes) -> None:
    server.set_answers("GET /x", (307, {}))
    server.set_answers("GET /elsewhere", (200, {}))
    server.location = "/elsewhere"
    with pytest.raises(ApiError, match="redirects to /elsewhere"):
        await kubernetes.request("GET", "/x", retry_seconds=0.1)
    assert server.list_requests("GET /elsewhere") == []


async def test_a_proxy_of_the_environment_is_not_asked(
    server: Script, kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.set_answers("GET /x", (200, {}))
    assert await kubernetes.request("GET", "/x", retry_seconds=0.1) == {}


async def test_each_attempt_is_counted_without_a_name(server: Script, kubernetes: Kubernetes) -> None:
    path = "/api/v1/namespaces/shop/configmaps/of-a-customer"
    server.set_answers(f"PUT {path}", (503, {}), (200, {}))

    def count(code: int) -> float:
        labels = {"verb": "PUT", "resource": "configmaps", "code": str(code)}
        return REGISTRY.get_sample_value("caravan_operator_kubernetes_requests_total", labels) or 0.0

    before = count(503), count(200)
    await kubernetes.request("PUT", path, {})
    assert (count(503), count(200)) == (before[0] + 1, before[1] + 1)


async def test_a_refused_login_is_read_again(
    server: Script, kubernetes: Kubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever starts the operator with a kubeconfig replaces its token as the cluster replaces a service account's."""
    server.set_answers("GET /x", (200, {}))
    await kubernetes.get("/x")
    path = tmp_path / "kubeconfig"
    path.write_text(path.read_text().replace("token: first", "token: second"))
    server.set_answers("GET /x", (401, {}), (200, {"found": 1}))
    assert await kubernetes.get("/x") == {"found": 1}
    sent = [headers["Authorization"] for _, headers in server.list_requests("GET /x")]
    assert sent == ["Bearer first", "Bearer first", "Bearer second"]


async def test_inside_a_cluster_the_service_account_logs_in_and_its_token_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("first")
    authority.write_text("a certificate")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    login = await load_credentials()
    assert (login.server, login.ca_path) == ("https://10.96.0.1:443", str(authority))
    assert login.as_http_headers() == {"Authorization": "bearer first"}

    configuration = build_configuration()
    await log_in(configuration)
    token.write_text("second")
    assert await configuration.get_api_key_with_prefix("BearerToken") == "bearer first", "for a minute"

    class InAMinute(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Self:
            return super().now(tz) + datetime.timedelta(seconds=61)

    monkeypatch.setattr("kubernetes.aio.config.incluster_config.datetime.datetime", InAMinute)
    assert await configuration.get_api_key_with_prefix("BearerToken") == "bearer second"


async def test_a_kubeconfig_may_name_a_program_that_logs_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kubeconfigs of managed clusters do."""
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "made"},
    }
    program = {"apiVersion": answer["apiVersion"], "command": "printenv", "args": ["ANSWER"]}
    monkeypatch.setenv("ANSWER", json.dumps(answer))
    config = {
        "current-context": "managed",
        "contexts": [{"name": "managed", "context": {"cluster": "managed", "user": "managed"}}],
        "clusters": [{"name": "managed", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "managed", "user": {"exec": program}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    assert (await load_credentials()).as_http_headers() == {"Authorization": "Bearer made"}


@pytest.mark.parametrize("content", [None, "", "current-context: none", "[", "clusters: 3"])
async def test_without_a_cluster_the_error_says_how_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(kopf.LoginError, match=r"no cluster: run inside one, or set KUBECONFIG .*/kubeconfig"):
        await Kubernetes().get("/x")


async def test_many_calls_at_once_log_in_once(
    server: Script, kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins = 0

    async def count_login(configuration: Configuration) -> None:
        nonlocal logins
        logins += 1
        await asyncio.sleep(0.05)
        await log_in(configuration)

    monkeypatch.setattr(module, "log_in", count_login)
    server.set_answers("GET /x", (200, {}))
    await asyncio.gather(*(kubernetes.get("/x") for _ in range(20)))
    assert logins == 1
