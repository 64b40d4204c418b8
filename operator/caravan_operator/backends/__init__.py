"""Everything that does I/O: Kafka, RabbitMQ, the Kubernetes API."""
