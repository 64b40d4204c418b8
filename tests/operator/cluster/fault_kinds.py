"""The kinds and connections that the tests of faults use."""

KAFKA, RABBIT = {"connectionRef": {"name": "kafka"}}, {"connectionRef": {"name": "rabbit"}}


TOPIC, QUEUE = "KafkaTopic", "RabbitMQQueue"
