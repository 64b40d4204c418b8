"""The durable bus of a laptop: topics, queues and exchanges as tables of one Postgres database.

A topic is a log with a cursor per group; a queue is rows that are deleted when they are done. A failed message waits in
the table `delivery`, and later messages of its key wait behind it. Each subscription has one active reader at a time
(an advisory lock), so the order needs no further locking.
"""

from caravan.bus.embedded.bus import EmbeddedBus

__all__ = ["EmbeddedBus"]
