"""The operator: Kafka topics and RabbitMQ topology from custom resources.

Rooms, imports downwards only: main > handlers (queue, loop, watches, Lease) > backends (Kafka, RabbitMQ, Kubernetes) >
reconcile (pure: what is wanted and what is, to actions)
> status (conditions, events, metrics) > resources (the kinds and their CRDs).
"""
