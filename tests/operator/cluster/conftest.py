"""Fixtures on a real API server: E2E_KUBECONFIG names it, or KUBECONFIG when that leads to a kind cluster: nobody's own
cluster gets CRDs by accident.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import yaml
from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.resources.__main__ import render_files

from tests.operator.cluster.apiserver import Namespace, OperatorProcess
from tests.operator.cluster.brokers import SideKafka, SideRabbit
from tests.support.backends import Broker
from tests.support.shop import wait_until


def _select_kind_config(path: str) -> str:
    """The path when its current context is a kind cluster."""
    config = yaml.safe_load(Path(path).read_text()) if path and Path(path).exists() else {}
    return path if str(config.get("current-context", "")).startswith("kind-") else ""


@pytest.fixture(scope="session")
async def kubernetes() -> AsyncIterator[Kubernetes]:
    """The API server with the CRDs of this checkout."""
    config = os.environ.get("E2E_KUBECONFIG") or _select_kind_config(os.environ.get("KUBECONFIG", ""))
    if not config:
        pytest.skip(
            "no cluster: set E2E_KUBECONFIG to the kubeconfig of one in which the tests may make CRDs and namespaces"
        )
    os.environ["KUBECONFIG"] = config
    api = Kubernetes()
    try:
        await api.request("GET", "/version", retry_seconds=3)
    except ApiError as error:
        await api.close()
        pytest.skip(f"no cluster answers at {config}: {error}")
    crds = [yaml.safe_load(content) for path, content in render_files().items() if path.startswith("crds/")]
    for crd in crds:
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
        await api.request(
            "PATCH", f"{path}?fieldManager=tests&force=true", crd, content_type="application/apply-patch+yaml"
        )

    async def are_established() -> bool:
        answers = [
            await api.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}")
            for crd in crds
        ]
        conditions = [
            {each["type"]: each["status"] for each in answer.get("status", {}).get("conditions", ())}
            for answer in answers
        ]
        return all(each.get("Established") == "True" for each in conditions)

    await wait_until(are_established, seconds=30, every=0.2)
    yield api
    await api.close()


@pytest.fixture(scope="module")
async def namespace(kubernetes: Kubernetes) -> AsyncIterator[Namespace]:
    name = f"caravan-test-{uuid4().hex[:8]}"
    await kubernetes.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield Namespace(kubernetes, name)
    await kubernetes.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="module")
async def connected(namespace: Namespace, kafka: Broker, rabbitmq: Broker) -> Namespace:
    """The namespace with a connection `kafka` and a connection `rabbit`."""
    await namespace.create_object("KafkaConnection", "kafka", {"bootstrapServers": [kafka.url], "requestTimeout": "5s"})
    url = urlsplit(rabbitmq.management_url)
    address = f"http://{url.hostname}:{url.port}"
    await namespace.put_secret("rabbit", address, username=url.username or "", password=url.password or "")
    await namespace.create_object(
        "RabbitMQConnection",
        "rabbit",
        {"managementUrl": address, "allowInsecure": True, "secretRef": {"name": "rabbit"}},
    )
    return namespace


@pytest.fixture(scope="module")
async def operator(connected: Namespace) -> AsyncIterator[OperatorProcess]:
    """An operator that looks at everything every two seconds."""
    process = OperatorProcess(connected.name, "--sweep", "2", "--deletion-wait", "15")
    await process.start()
    try:
        await connected.wait_until_ready("KafkaConnection", "kafka", seconds=30)
        await connected.wait_until_ready("RabbitMQConnection", "rabbit", seconds=30)
        yield process
    finally:
        code = await process.stop()
    assert code == 0, "an orderly stop is no failure"
    lease = await connected.kubernetes.get(
        f"/apis/coordination.k8s.io/v1/namespaces/{connected.name}/leases/caravan-operator"
    )
    assert lease["spec"].get("holderIdentity", "") == "", "a standby takes over at once"


@pytest.fixture(scope="module")
def kafka_side(kafka: Broker) -> SideKafka:
    return SideKafka(kafka)


@pytest.fixture(scope="module")
def rabbit_side(rabbitmq: Broker) -> SideRabbit:
    return SideRabbit(rabbitmq)


@pytest.fixture
def name() -> str:
    """The name of a resource of this test's own."""
    return f"t-{uuid4().hex[:8]}"
