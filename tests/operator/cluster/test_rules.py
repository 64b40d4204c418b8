"""Every rule of every CRD on a real API server: one object that it accepts and one that it refuses, with the rule's own
message.
"""

from dataclasses import dataclass
from typing import Any

import pytest
from caravan_operator.backends.kubernetes import ApiError
from caravan_operator.resources import KINDS

from tests.operator.cluster.apiserver import Namespace
from tests.operator.test_resources import walk_schemas

REF = {"connectionRef": {"name": "broker"}}
VALID: dict[str, dict[str, Any]] = {
    "KafkaConnection": {"bootstrapServers": ["kafka:9092"]},
    "RabbitMQConnection": {"managementUrl": "https://rabbit:15671", "secretRef": {"name": "rabbit"}},
    "KafkaTopic": {**REF, "partitions": 3},
    "RabbitMQQueue": {**REF},
    "RabbitMQExchange": {**REF},
    "RabbitMQBinding": {**REF, "source": "e", "destination": "q"},
    "RabbitMQPolicy": {**REF, "pattern": "^q", "definition": {"maxLength": 1}},
    "ServiceRoute": {"serviceRef": {"name": "orders"}},
}
OBJECTS = ("RabbitMQQueue", "RabbitMQExchange", "RabbitMQPolicy")
SASL = {"protocol": "SASL_SSL", "saslMechanism": "PLAIN", "secretRef": {"name": "s"}}


@dataclass(frozen=True)
class Case:
    kind: str
    message: str
    good: dict[str, Any]
    bad: dict[str, Any]
    before: dict[str, Any] | None = None
    """For rules about changes: the object that is changed to `good` or `bad`."""
    bad_name: str = "rule"


def make_immutable_case(kind: str, field: str, value: Any, other: Any) -> Case:
    return Case(kind, f"{field} is immutable", {field: value}, {field: other}, before={field: value})


def _build_limited_route(period: str) -> dict[str, Any]:
    return {"pathExact": "/", "rateLimit": {"requests": 1, "period": period}}


CASES = [
    *(
        make_immutable_case(kind, "connectionRef", {"name": "broker"}, {"name": "other"})
        for kind, valid in VALID.items()
        if "connectionRef" in valid
    ),
    Case(
        "KafkaConnection",
        "a SASL protocol needs saslMechanism and secretRef",
        {"security": SASL},
        {"security": {"protocol": "SASL_SSL"}},
    ),
    Case(
        "KafkaConnection",
        "saslMechanism and secretRef go with a SASL protocol",
        {"security": SASL},
        {"security": {**SASL, "protocol": "SSL"}},
    ),
    Case(
        "KafkaConnection",
        "tls goes with SSL or SASL_SSL",
        {"security": {"protocol": "SSL", "tls": {"caSecretRef": {"name": "ca"}}}},
        {"security": {"protocol": "PLAINTEXT", "tls": {"caSecretRef": {"name": "ca"}}}},
    ),
    *(
        Case(
            kind,
            "matchLabels goes with from: Selector, and only with it",
            {"allowedNamespaces": {"from": "Selector", "matchLabels": {"a": "b"}}},
            {"allowedNamespaces": {"from": "All", "matchLabels": {"a": "b"}}},
        )
        for kind in ("KafkaConnection", "RabbitMQConnection")
    ),
    *(
        Case(kind, "must be from 1s to 5m", {"requestTimeout": "1m30s"}, {"requestTimeout": "6m"})
        for kind in ("KafkaConnection", "RabbitMQConnection")
    ),
    *(
        Case(kind, "must be from 0s to 5s", {"batch": {"linger": "200ms"}}, {"batch": {"linger": "1h"}})
        for kind in ("KafkaConnection", "RabbitMQConnection")
    ),
    Case("KafkaTopic", "Kafka refuses the names . and ..", {"topicName": "a.b"}, {"topicName": ".."}),
    Case(
        "KafkaTopic",
        "must be from 1s to 999999h or 'unlimited'",
        {"config": {"retention": "unlimited"}},
        {"config": {"retention": "1ms"}},
    ),
    Case(
        "KafkaTopic",
        "a setting that has a field in config is set there",
        {"extraConfig": {"flush.ms": "1"}},
        {"extraConfig": {"retention.ms": "1"}},
    ),
    Case(
        "KafkaTopic",
        "keys are Kafka's names of topic settings, such as flush.ms",
        {"extraConfig": {"a.b": "1"}},
        {"extraConfig": {"A b": "1"}},
    ),
    make_immutable_case("KafkaTopic", "topicName", "a", "b"),
    make_immutable_case("KafkaTopic", "replicas", 1, 2),
    Case("KafkaTopic", "topicName is immutable", {}, {"topicName": "new"}, before={}),
    Case("KafkaTopic", "partitions can't shrink", {"partitions": 3}, {"partitions": 2}, before={"partitions": 3}),
    Case(
        "KafkaTopic",
        "more partitions move keys to other partitions",
        {"partitions": 6, "allowPartitionIncrease": True},
        {"partitions": 6},
        before={"partitions": 3},
    ),
    Case(
        "KafkaTopic",
        "config.minInsyncReplicas can't be above replicas",
        {"replicas": 2, "config": {"minInsyncReplicas": 2}},
        {"replicas": 2, "config": {"minInsyncReplicas": 3}},
    ),
    Case(
        "RabbitMQConnection",
        "managementUrl must be https, or allowInsecure: true",
        {"managementUrl": "http://r:1", "allowInsecure": True},
        {"managementUrl": "http://r:1"},
    ),
    Case(
        "RabbitMQConnection",
        "tls goes with https",
        {"tls": {"caSecretRef": {"name": "ca"}}},
        {"managementUrl": "http://r:1", "allowInsecure": True, "tls": {"caSecretRef": {"name": "ca"}}},
    ),
    *(
        Case(kind, "names that start with amq. belong to the broker", {"name": "amqp"}, {"name": "amq.direct"})
        for kind in ("RabbitMQQueue", "RabbitMQExchange")
    ),
    *(
        make_immutable_case(kind, field, value, other)
        for kind in ("RabbitMQQueue", "RabbitMQExchange")
        for field, value, other in (
            ("name", "a", "b"),
            ("vhost", "a", "b"),
            ("durable", True, True),
            ("autoDelete", False, False),
        )
        if value != other
    ),
    make_immutable_case("RabbitMQQueue", "type", "quorum", "stream"),
    Case("RabbitMQQueue", "durable is immutable", {"durable": True}, {"durable": False}, before={"type": "classic"}),
    Case(
        "RabbitMQQueue",
        "autoDelete is immutable",
        {"autoDelete": False},
        {"autoDelete": True},
        before={"type": "classic"},
    ),
    make_immutable_case("RabbitMQQueue", "arguments", {"singleActiveConsumer": True}, {"singleActiveConsumer": False}),
    Case(
        "RabbitMQQueue",
        "quorum queues and streams are durable and not autoDelete",
        {"type": "classic", "durable": False},
        {"durable": False},
    ),
    Case(
        "RabbitMQQueue",
        "maxPriority is for classic queues",
        {"type": "classic", "arguments": {"maxPriority": 3}},
        {"arguments": {"maxPriority": 3}},
    ),
    Case(
        "RabbitMQQueue",
        "initialGroupSize is for quorum queues",
        {"arguments": {"initialGroupSize": 3}},
        {"type": "classic", "arguments": {"initialGroupSize": 3}},
    ),
    Case(
        "RabbitMQQueue",
        "deliveryLimit is for quorum queues",
        {"limits": {"deliveryLimit": 3}},
        {"type": "classic", "limits": {"deliveryLimit": 3}},
    ),
    Case(
        "RabbitMQQueue",
        "deadLetterStrategy is for quorum queues",
        {"limits": {"deadLetterStrategy": "at-most-once"}},
        {"type": "classic", "limits": {"deadLetterStrategy": "at-most-once"}},
    ),
    Case(
        "RabbitMQQueue",
        "deadLetterRoutingKey needs deadLetterExchange",
        {"limits": {"deadLetterExchange": "", "deadLetterRoutingKey": "a.dlq"}},
        {"limits": {"deadLetterRoutingKey": "a.dlq"}},
    ),
    Case(
        "RabbitMQQueue",
        "deadLetterStrategy at-least-once needs overflow: reject-publish",
        {"limits": {"deadLetterStrategy": "at-least-once", "overflow": "reject-publish"}},
        {"limits": {"deadLetterStrategy": "at-least-once"}},
    ),
    Case(
        "RabbitMQQueue",
        "of the limits a stream knows maxLengthBytes only",
        {"type": "stream", "limits": {"maxLengthBytes": 1}},
        {"type": "stream", "limits": {"maxLength": 1}},
    ),
    *(
        Case(kind, "must be from 0s to 87600h", {field: {"messageTtl": "1h"}}, {field: {"messageTtl": "87601h"}})
        for kind, field in (("RabbitMQQueue", "limits"), ("RabbitMQPolicy", "definition"))
    ),
    *(
        Case(kind, "must be from 1ms to 87600h", {field: {"expires": "1h"}}, {field: {"expires": "0s"}})
        for kind, field in (("RabbitMQQueue", "limits"), ("RabbitMQPolicy", "definition"))
    ),
    Case(
        "RabbitMQPolicy",
        "must be from 1m to 87600h",
        {"definition": {"consumerTimeout": "30m"}},
        {"definition": {"consumerTimeout": "1s"}},
    ),
    Case(
        "RabbitMQPolicy",
        "keys are RabbitMQ's names",
        {"definition": {"extra": {"max-age": "1D"}}},
        {"definition": {"extra": {"maxAge": "1D"}}},
    ),
    *(
        Case(kind, "the management API has no address for the names . and ..", {field: good}, {field: bad})
        for kind, field, good, bad in (
            *((kind, field, "...", dots) for kind in OBJECTS for field in ("name", "vhost") for dots in (".", "..")),
            *(("RabbitMQBinding", field, "a..b", "..") for field in ("vhost", "source", "destination", "routingKey")),
            ("RabbitMQConnection", "vhosts", ["a."], [".."]),
        )
    ),
    Case("RabbitMQPolicy", "names that start with caravan.queue.", {"name": "caravan"}, {"name": "caravan.queue.x"}),
    make_immutable_case("RabbitMQPolicy", "name", "a", "b"),
    make_immutable_case("RabbitMQPolicy", "vhost", "a", "b"),
    make_immutable_case("RabbitMQExchange", "type", "topic", "direct"),
    Case("RabbitMQExchange", "durable is immutable", {"durable": True}, {"durable": False}, before={}),
    Case("RabbitMQExchange", "autoDelete is immutable", {"autoDelete": False}, {"autoDelete": True}, before={}),
    Case("RabbitMQExchange", "internal is immutable", {"internal": False}, {"internal": True}, before={}),
    Case(
        "RabbitMQExchange",
        "arguments is immutable",
        {},
        {"arguments": {"delayedType": "topic"}},
        before={"type": "x-delayed-message", "arguments": {"delayedType": "direct"}},
    ),
    Case(
        "RabbitMQExchange",
        "arguments.delayedType goes with type x-delayed-message",
        {"type": "x-delayed-message", "arguments": {"delayedType": "topic"}},
        {"type": "x-delayed-message"},
    ),
    make_immutable_case("RabbitMQBinding", "vhost", "a", "b"),
    make_immutable_case("RabbitMQBinding", "source", "a", "b"),
    make_immutable_case("RabbitMQBinding", "destination", "a", "b"),
    make_immutable_case("RabbitMQBinding", "destinationType", "queue", "exchange"),
    make_immutable_case("RabbitMQBinding", "routingKey", "a", "b"),
    make_immutable_case("RabbitMQBinding", "arguments", {"x-match": "all", "n": 1}, {"x-match": "any", "n": 1}),
    Case("ServiceRoute", "the name is a service's", {}, {}, bad_name="1.orders"),
    make_immutable_case("ServiceRoute", "gateway", "one", "two"),
    Case("ServiceRoute", "gateway is immutable", {}, {"gateway": "new"}, before={}),
    Case(
        "ServiceRoute",
        "exactly one of pathPrefix",
        {"routes": [{"pathExact": "/"}]},
        {"routes": [{"pathExact": "/", "pathPrefix": "/"}]},
    ),
    Case(
        "ServiceRoute",
        "exactly one of pathPrefix",
        {"routes": [{"pathsFrom": "OpenAPI"}]},
        {"routes": [{"host": "shop.test"}]},
    ),
    Case(
        "ServiceRoute",
        "rewritePrefix goes with pathPrefix",
        {"routes": [{"pathPrefix": "/v2", "rewritePrefix": "/v1"}]},
        {"routes": [{"pathExact": "/v2", "rewritePrefix": "/v1"}]},
    ),
    Case(
        "ServiceRoute",
        "a path has no segments",
        {"routes": [{"pathPrefix": "/a..b"}]},
        {"routes": [{"pathPrefix": "/a/../b"}]},
    ),
    *(
        Case(
            "ServiceRoute",
            f"must be from {bounds}",
            {"routes": [_build_limited_route(good)]},
            {"routes": [_build_limited_route(bad)]},
        )
        for bounds, good, bad in (("1s to 24h", "1m", "25h"),)
    ),
    *(
        Case("ServiceRoute", f"must be from {bounds}", {part: {field: good}}, {part: {field: bad}})
        for part, field, bounds, good, bad in (
            ("timeouts", "request", "1ms to 1h", "30s", "2h"),
            ("timeouts", "backendRequest", "1ms to 1h", "30s", "0s"),
            ("timeouts", "connect", "1ms to 1m", "30s", "2m"),
            ("retry", "backoff", "0s to 1m", "0s", "2m"),
            ("circuitBreaker", "window", "1s to 1h", "30s", "2h"),
            ("circuitBreaker", "openFor", "100ms to 1h", "30s", "1ms"),
        )
    ),
    Case(
        "ServiceRoute",
        "backendRequest can't be above request",
        {"timeouts": {"request": "3s", "backendRequest": "3000ms"}},
        {"timeouts": {"request": "3s", "backendRequest": "1m"}},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.message}")
async def test_a_rule_accepts_and_refuses(namespace: Namespace, case: Case) -> None:
    name = "rule"
    if case.before is None:
        await namespace.create_object(case.kind, name, {**VALID[case.kind], **case.good}, dry_run=True)
        with pytest.raises(ApiError) as refused:
            await namespace.create_object(case.kind, case.bad_name, {**VALID[case.kind], **case.bad}, dry_run=True)
    else:
        await namespace.create_object(case.kind, name, {**VALID[case.kind], **case.before})
        try:
            await namespace.change_spec(case.kind, name, case.good, dry_run=True)
            with pytest.raises(ApiError) as refused:
                await namespace.change_spec(case.kind, name, case.bad, dry_run=True)
        finally:
            await namespace.delete_object(case.kind, name)
    assert refused.value.status == 422
    assert case.message in str(refused.value)


def test_every_rule_has_a_case() -> None:
    proven = {(case.kind, case.message) for case in CASES}
    for kind in KINDS.values():
        for path, schema in walk_schemas(
            kind.build_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"], kind.name
        ):
            for rule in schema.get("x-kubernetes-validations", ()):
                assert any(name == kind.name and rule["message"].startswith(message) for name, message in proven), (
                    f"{path}: {rule['message']}"
                )


@pytest.mark.parametrize("kind", VALID)
async def test_a_minimal_object_is_accepted_and_null_settings_are_kept(namespace: Namespace, kind: str) -> None:
    extra = (
        {"config": {"retention": None, "cleanupPolicy": None}, "extraConfig": {"flush.ms": None}}
        if kind == "KafkaTopic"
        else {}
    )
    found = await namespace.create_object(kind, "minimal", {**VALID[kind], **extra}, dry_run=True)
    assert extra.items() <= found["spec"].items()
