"""The kinds that the tests of the cluster use, and the connections that they name."""

KAFKA, RABBIT = {"connectionRef": {"name": "kafka"}}, {"connectionRef": {"name": "rabbit"}}


TOPIC, QUEUE = "KafkaTopic", "RabbitMQQueue"
