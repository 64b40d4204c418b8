"""Cases of the rules for queues, exchanges, bindings and policies of RabbitMQ."""

from tests.operator.cluster.rule_cases import OBJECTS, Case, make_immutable_case

RABBITMQ_CASES = [
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
]
