"""What people write first with kopf, to compare with: a handler and a timer per object, each asking the broker for this
one topic and writing its status.

Run by `python -m bench.operator`; it serves KafkaTopics of one namespace, ignores connections, and takes the broker
from its first argument.
"""

import asyncio
import sys
from typing import Any

import kopf
from aiohttp import web
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

COUNTS = {"broker_calls": 0, "kubernetes_writes": 0, "passes": 0}
PERIOD = 30.0


def build_registry(bootstrap: str) -> kopf.OperatorRegistry:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    handlers = kopf.OperatorRegistry()
    resource = ("messaging.caravan.dev", "v1alpha1", "kafkatopics")

    async def call_broker(futures: dict[Any, Any]) -> Any:
        COUNTS["broker_calls"] += 1
        (future,) = futures.values()
        return await asyncio.wrap_future(future)

    @kopf.on.startup(registry=handlers)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.peering.standalone = True
        settings.scanning.disabled = True
        settings.posting.enabled = False

    @kopf.on.login(registry=handlers)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.create(*resource, registry=handlers)
    @kopf.timer(*resource, interval=PERIOD, registry=handlers)
    async def reconcile(name: str, spec: kopf.Spec, patch: kopf.Patch, **_: Any) -> None:
        topic = spec.get("topicName") or name
        try:
            await call_broker(admin.describe_topics(TopicCollection([topic])))
        except KafkaException:
            await call_broker(
                admin.create_topics(
                    [NewTopic(topic, num_partitions=spec["partitions"], replication_factor=spec.get("replicas", -1))]
                )
            )
        await call_broker(admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]))
        COUNTS["passes"] += 1
        COUNTS["kubernetes_writes"] += 1
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "Ready",
            "message": "",
            "lastTransitionTime": "2030-01-01T00:00:00Z",
        }
        patch.status["conditions"] = [ready]

    return handlers


async def main(bootstrap: str, namespace: str, port: int) -> None:
    application = web.Application()

    async def get_counts(_: web.Request) -> web.Response:
        return web.json_response(COUNTS)

    application.router.add_get("/counts", get_counts)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await kopf.operator(registry=build_registry(bootstrap), namespaces=[namespace], standalone=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
