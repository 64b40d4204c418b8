"""Topics on Kafka: an idempotent producer, and readers that commit only what is finished.

A reader takes batches, and keeps failed messages in memory with their key (`reader.py`). Dead letters go to the
compacted topic `<subscription>.dlq` (`dead_letters.py`); the topic `<subscription>.retry` brings them back to this
subscription alone.
"""

from caravan.bus.kafka.bus import KafkaBus

__all__ = ["KafkaBus"]
