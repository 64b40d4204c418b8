"""The operator against servers and resources that mean harm: what they cost, what they get, and what becomes of the
others meanwhile.
"""

import asyncio
import base64
import json
from typing import Any

import pytest
from caravan_operator.backends import logins
from caravan_operator.backends.broker import BrokerUnavailable
from caravan_operator.backends.gateway import GatewayPods
from caravan_operator.reconcile.endpoint_index import Endpoint
from caravan_operator.resources.kinds import SERVERS_ANNOTATION
from caravan_operator.status.reasons import Reason

from tests.hostile.management_api import SECRET, Hostile, Kubernetes, answer_with, connection
from tests.operator.resources import make_resource


@pytest.mark.parametrize("servers", [None, "", "https://rabbitmq:15671", "http://attacker.test.evil"])
async def test_a_secret_is_used_only_at_the_servers_it_names(servers: str | None) -> None:
    api: Any = Kubernetes(servers, username="u", password=SECRET)
    with pytest.raises(BrokerUnavailable) as refused:
        await logins.fetch_secrets(api, connection("http://attacker.test"))
    assert refused.value.reason is Reason.SECRET_NOT_ALLOWED
    assert SECRET not in str(refused.value)
    assert SERVERS_ANNOTATION in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://rabbit:15672@attacker.test",
        "http://u:p@rabbit:15672",
        "http://rabbit:15672.attacker.test",
        "http://attacker.test/?http://rabbit:15672",
        "http://rabbit:15672/../x",
        "https://rabbit:15672",
        "http://rabbit",
    ],
)
async def test_an_address_that_only_looks_like_the_meant_one_gets_no_secret(url: str) -> None:
    api: Any = Kubernetes("http://rabbit:15672", username="u", password=SECRET)
    with pytest.raises(BrokerUnavailable) as refused:
        await logins.fetch_secrets(api, connection(url))
    assert refused.value.reason is Reason.SECRET_NOT_ALLOWED


async def test_the_keys_of_a_secret_are_not_chosen_by_the_connection() -> None:
    resource = connection("http://rabbit", passwordKey="token")
    api: Any = Kubernetes("http://rabbit/", username="u", token=SECRET)
    secrets = await logins.fetch_secrets(api, resource)
    assert base64.b64encode(SECRET.encode()).decode() not in json.dumps(secrets)
    with pytest.raises(BrokerUnavailable, match="no key password"):
        await logins.connect_broker(resource, secrets, lambda: None)


async def test_a_secrets_name_does_not_leave_its_path() -> None:
    resource = make_resource(
        "KafkaConnection",
        "k",
        bootstrapServers=["k:9092"],
        security={"tls": {"clientSecretRef": {"name": "../configmaps/x"}}},
    )
    api: Any = Kubernetes("k:9092")
    await logins.fetch_secrets(api, resource)
    assert api.asked == ["/api/v1/namespaces/shop/secrets/..%2Fconfigmaps%2Fx"]


async def test_binary_values_and_bad_certificates_are_reported() -> None:
    resource = make_resource(
        "RabbitMQConnection",
        "r",
        managementUrl="https://r",
        secretRef={"name": "s"},
        tls={"caSecretRef": {"name": "s"}},
    )
    api: Any = Kubernetes("https://r", username="u", password="p", ca_crt="no PEM")
    with pytest.raises(BrokerUnavailable) as refused:
        await logins.connect_broker(resource, await logins.fetch_secrets(api, resource), lambda: None)
    assert refused.value.reason is Reason.SECRET_UNUSABLE


@pytest.mark.parametrize(
    "body",
    [
        b'{"revision": "r", "sequence": 9007199254740000}',
        b'{"revision": "r", "sequence": true}',
        b"[]",
        b" " * 5000,
        b'{"revision": "\\u001b", "sequence": 1}',
    ],
)
async def test_a_gateway_pod_that_lies_has_reported_nothing(hostile: Hostile, body: bytes) -> None:
    hostile.answers["/revision"] = answer_with(body)
    pods = GatewayPods()
    port = int(hostile.url.rpartition(":")[2])
    (pod,) = await asyncio.wait_for(pods.fetch_revisions([_endpoint(port)]), 10)
    await pods.close()
    assert (pod.revision, pod.sequence) == (None, None)


def _endpoint(port: int) -> Endpoint:
    fields = dict.fromkeys(Endpoint.__dataclass_fields__)
    return Endpoint(**{**fields, "address": "127.0.0.1", "port": port, "pod": "p"})  # type: ignore[arg-type]
