"""The operator: Kafka topics, RabbitMQ topology and service discovery from custom resources.

Layers, each imports only those below it: main > commands > controller (queue, watches, reconcilers, Lease) > backends
(Kafka, RabbitMQ, Kubernetes) > reconcile (pure: from desired and observed state to actions) > status (conditions,
Events, metrics) > resources (the kinds and their CRDs).
"""
