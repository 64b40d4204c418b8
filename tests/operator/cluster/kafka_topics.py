"""What the tests of KafkaTopic share: the kind, the connection that they name, and a wait for a value."""

REF = {"connectionRef": {"name": "kafka"}}


K = "KafkaTopic"
