"""What carries the messages of a proof, as an onlooker sees it: what waits, what died of itself, and which reader one
passed by (I7). What a strike planted may have died.
"""

from caravan.messages import Topic
from caravan.runtime import BUS, Backends, list_subscriptions
from services.registry import load_services
from tests.faults.brokers_watched import OnBrokers
from tests.faults.invariants import InPostgres, rows

POISON = "poison-"
"""Begins the keys of what was planted."""
BROKEN = b"{broken"
"""The body of what was planted: no reader can read it."""


class EmbeddedWire(InPostgres):
    async def faults(self) -> list[str]:
        dead = await rows(self._backends, BUS, "SELECT subscription, key, reason FROM dead_letter")
        found = [
            f"dead letter of {row['subscription']}: {row['reason']}"
            for row in dead
            if not row["key"].startswith(POISON)
        ]
        twice = await rows(
            self._backends,
            BUS,
            "SELECT topic, message_id FROM topic_log GROUP BY 1, 2 HAVING count(DISTINCT body) > 1",
        )
        found += [f"{row['topic']} has two messages {row['message_id']}" for row in twice]
        return found + await self._find_unhandled()

    async def _find_unhandled(self) -> list[str]:
        query = f"SELECT DISTINCT message_id FROM topic_log WHERE topic = $1 AND key NOT LIKE '{POISON}%'"
        found = []
        for service in load_services():
            for subscription in list_subscriptions([service]):
                if isinstance(subscription.source, Topic):
                    sent = {row[0] for row in await rows(self._backends, BUS, query, subscription.channel)}
                    handled = await rows(
                        self._backends,
                        service.databases[0].name,
                        "SELECT message_id FROM inbox WHERE consumer = $1",
                        subscription.name,
                    )
                    lost = sent - {row[0] for row in handled}
                    found += [f"{subscription.name} never handled {len(lost)} of {len(sent)} messages"] if lost else []
        return found


class BrokerWire(OnBrokers):
    def __init__(self, backends: Backends, kafka_url: str, rabbitmq_url: str) -> None:
        super().__init__(backends, kafka_url, rabbitmq_url, foreign=BROKEN, planted_key=POISON)

    async def unread(self) -> int:
        """A broker that does not answer may hold something."""
        try:
            return await super().unread()
        except (ConnectionError, TimeoutError):
            return 1
