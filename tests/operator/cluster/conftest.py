"""Fixtures on a real API server: E2E_KUBECONFIG names it, or KUBECONFIG when that leads to a kind cluster: nobody's own cluster gets CRDs by accident."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import yaml
from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.resources.__main__ import files

from tests.backends import Broker
from tests.operator.cluster.apiserver import Namespace, Operator
from tests.shop import until


def _kind(path: str) -> str:
    """The path when its current context is a kind cluster."""
    found = yaml.safe_load(Path(path).read_text()) if path and Path(path).exists() else {}
    return path if str(found.get("current-context", "")).startswith("kind-") else ""


@pytest.fixture(scope="session")
async def kubernetes() -> AsyncIterator[Kubernetes]:
    """The API server with the CRDs of this checkout."""
    config = os.environ.get("E2E_KUBECONFIG") or _kind(os.environ.get("KUBECONFIG", ""))
    if not config:
        pytest.skip("no cluster: set E2E_KUBECONFIG to the kubeconfig of one in which the tests may make CRDs and namespaces")
    os.environ["KUBECONFIG"] = config
    found = Kubernetes()
    try:
        await found.request("GET", "/version", patience=3)
    except ApiError as error:
        await found.close()
        pytest.skip(f"no cluster answers at {config}: {error}")
    crds = [yaml.safe_load(content) for path, content in files().items() if path.startswith("crds/")]
    for crd in crds:
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}?fieldManager=tests&force=true"
        await found.request("PATCH", path, crd, content_type="application/apply-patch+yaml")

    async def established() -> bool:
        answers = [await found.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}") for crd in crds]
        conditions = [{each["type"]: each["status"] for each in answer.get("status", {}).get("conditions", ())} for answer in answers]
        return all(each.get("Established") == "True" for each in conditions)

    await until(established, seconds=30, every=0.2)
    yield found
    await found.close()


@pytest.fixture(scope="module")
async def namespace(kubernetes: Kubernetes) -> AsyncIterator[Namespace]:
    name = f"caravan-test-{uuid4().hex[:8]}"
    await kubernetes.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield Namespace(kubernetes, name)
    await kubernetes.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="module")
async def connected(namespace: Namespace, kafka: Broker, rabbitmq: Broker) -> Namespace:
    """The namespace with a connection `kafka` and a connection `rabbit`."""
    await namespace.create("KafkaConnection", "kafka", {"bootstrapServers": [kafka.url], "requestTimeout": "5s"})
    url = urlsplit(rabbitmq.management_url)
    address = f"http://{url.hostname}:{url.port}"
    await namespace.secret("rabbit", address, username=url.username or "", password=url.password or "")
    await namespace.create(
        "RabbitMQConnection", "rabbit", {"managementUrl": address, "allowInsecure": True, "secretRef": {"name": "rabbit"}}
    )
    return namespace


@pytest.fixture(scope="module")
async def operator(connected: Namespace) -> AsyncIterator[Operator]:
    """An operator that looks at everything every two seconds."""
    running = Operator(connected.name, "--sweep", "2", "--deletion-wait", "15")
    await running.start()
    try:
        await connected.ready("KafkaConnection", "kafka", seconds=30)
        await connected.ready("RabbitMQConnection", "rabbit", seconds=30)
        yield running
    finally:
        code = await running.stop()
    assert code == 0, "an orderly stop is no failure"
    lease = await connected.kubernetes.get(f"/apis/coordination.k8s.io/v1/namespaces/{connected.name}/leases/caravan-operator")
    assert lease["spec"].get("holderIdentity", "") == "", "a standby takes over at once"
