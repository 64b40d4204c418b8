"""Kafka by its exporter: brokers, replicas, and what moves in topics and groups."""

from observability.dashboards.model import Board, Panel, Query, Row, Threshold
from observability.dashboards.queries import SHOP, WINDOW, select, take_max

UNDER_REPLICATED = take_max("kafka_topic_partition_under_replicated_partition", "topic, partition")
IN_SYNC = take_max("kafka_topic_partition_in_sync_replica", "topic, partition")
VOLUME = f'{SHOP}, persistentvolumeclaim=~".*kafka.*"'

NOW = (
    Panel(
        "stat",
        "Brokers",
        "Brokers that the cluster has now.",
        "none",
        (Query(take_max("kafka_brokers"), "brokers"),),
        width=6,
        height=4,
        thresholds=(Threshold(0, "red"), Threshold(1, "green")),
    ),
    Panel(
        "stat",
        "Offline partitions",
        "Partitions without a replica in sync: nobody can write to them or read them.",
        "none",
        (Query(f"sum({IN_SYNC} == bool 0)", "offline"),),
        width=6,
        height=4,
        thresholds=(Threshold(1, "red"),),
    ),
    Panel(
        "stat",
        "Under-replicated partitions",
        "Partitions with fewer copies in sync than declared: a broker is down or slow.",
        "none",
        (Query(f"sum({UNDER_REPLICATED})", "under-replicated"),),
        width=6,
        height=4,
        thresholds=(Threshold(1, "red"),),
    ),
    Panel(
        "stat",
        "Partitions with one copy",
        "Partitions whose only copy is on one broker, although more were declared: the next loss stops them.",
        "none",
        (
            Query(
                f"sum(({IN_SYNC} == bool 1) * ("
                f"{take_max('kafka_topic_partition_replicas', 'topic, partition')} > bool 1))",
                "one copy",
            ),
        ),
        width=6,
        height=4,
        thresholds=(Threshold(1, "red"),),
    ),
)

FLOW = (
    Panel(
        "lines",
        "Written by topic",
        "Messages per second appended to each topic, by the growth of its offsets.",
        "mps",
        (
            Query(
                f"sum by (topic) (max by (topic, partition) (deriv({select('kafka_topic_partition_current_offset')}"
                f"[{WINDOW}])))",
                "{{topic}}",
            ),
        ),
        stacked=True,
        width=12,
    ),
    Panel(
        "lines",
        "Lag by group",
        "Messages that a consumer group has not read yet.",
        "short",
        (
            Query(
                f"sum by (consumergroup) ({take_max('kafka_consumergroup_lag', 'consumergroup, topic, partition')})",
                "{{consumergroup}}",
            ),
        ),
        width=12,
    ),
    Panel(
        "lines",
        "Members by group",
        "Consumers of each group. More members than partitions have nothing to read; 0 is a group that nobody reads "
        "for.",
        "none",
        (Query(take_max("kafka_consumergroup_members", "consumergroup"), "{{consumergroup}}"),),
    ),
    Panel(
        "lines",
        "Partitions without their preferred leader",
        "Partitions led by another broker than planned: load is uneven after a restart until leaders move back.",
        "none",
        (
            Query(
                f"sum by (topic) (1 - {take_max('kafka_topic_partition_leader_is_preferred', 'topic, partition')})",
                "{{topic}}",
            ),
        ),
        thresholds=(Threshold(1, "yellow"),),
    ),
    Panel(
        "lines",
        "Disk in use",
        "Share of each broker's volume that is full. At 85 % make room: a broker whose disk is full stops.",
        "percentunit",
        (
            Query(
                "1 - min by (persistentvolumeclaim) "
                f"({select('kubelet_volume_stats_available_bytes', VOLUME)})"
                " / min by (persistentvolumeclaim) "
                f"({select('kubelet_volume_stats_capacity_bytes', VOLUME)})",
                "{{persistentvolumeclaim}}",
            ),
        ),
        thresholds=(Threshold(0.7, "yellow"), Threshold(0.85, "red")),
        maximum=1,
    ),
)

BOARDS = (
    Board(
        "kafka",
        "Kafka",
        "Brokers and replicas, topics and groups, as Kafka's exporter tells them.",
        (Row("Is the cluster whole?", NOW), Row("What moves, and who is behind?", FLOW)),
    ),
)
