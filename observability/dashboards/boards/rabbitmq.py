"""RabbitMQ by its own endpoints: `/metrics` for the node, `/metrics/detailed` for the queues."""

from observability.dashboards.model import Board, Panel, Query, Row, Threshold
from observability.dashboards.queries import select, sum_rate, take_max, take_sum

MEMORY = (
    f"{take_max('rabbitmq_process_resident_memory_bytes', 'instance')}"
    f" / {take_max('rabbitmq_resident_memory_limit_bytes', 'instance')}"
)
UNROUTABLE = (
    f"{sum_rate('rabbitmq_global_messages_unroutable_returned_total')}"
    f" + {sum_rate('rabbitmq_global_messages_unroutable_dropped_total')}"
)

NOW = (
    Panel(
        "stat",
        "Messages ready",
        "Messages in all queues that no consumer has taken.",
        "short",
        (Query(take_sum("rabbitmq_queue_messages_ready"), "ready"),),
        width=6,
        height=4,
        thresholds=(Threshold(1000, "yellow"), Threshold(10_000, "red")),
    ),
    Panel(
        "stat",
        "Messages unacknowledged",
        "Messages that a consumer holds and has not acknowledged.",
        "short",
        (Query(take_sum("rabbitmq_queue_messages_unacked"), "unacknowledged"),),
        width=6,
        height=4,
    ),
    Panel(
        "stat",
        "Alarms",
        "Alarms of memory or disk. While one is on, the broker takes nothing from publishers.",
        "none",
        (
            Query(
                f"{take_sum('rabbitmq_alarms_memory_used_watermark')}"
                f" + {take_sum('rabbitmq_alarms_free_disk_space_watermark')}",
                "alarms",
            ),
        ),
        width=6,
        height=4,
        thresholds=(Threshold(1, "red"),),
    ),
    Panel(
        "stat",
        "Memory before the block",
        "Share of the memory at which the broker blocks its publishers.",
        "percentunit",
        (Query(f"max({MEMORY})", "used"),),
        width=6,
        height=4,
        thresholds=(Threshold(0.7, "yellow"), Threshold(0.85, "red")),
    ),
)

QUEUES = (
    Panel(
        "lines",
        "Ready by queue",
        "Messages that no consumer has taken. Queues of dead letters (`.dlq`) are in it.",
        "short",
        (Query(take_sum("rabbitmq_detailed_queue_messages_ready", "queue"), "{{queue}}"),),
    ),
    Panel(
        "lines",
        "Unacknowledged by queue",
        "Messages that a consumer holds: waiting retries are among them.",
        "short",
        (Query(take_sum("rabbitmq_detailed_queue_messages_unacked", "queue"), "{{queue}}"),),
    ),
    Panel(
        "lines",
        "Consumers by queue",
        "Consumers of each queue. 0 means that nobody takes its messages; queues of dead letters have none.",
        "none",
        (Query(take_sum("rabbitmq_detailed_queue_consumers", "queue"), "{{queue}}"),),
    ),
)

NODE = (
    Panel(
        "lines",
        "Messages per second",
        "Received from publishers, confirmed to them, and acknowledged by consumers. The three run together in health.",
        "mps",
        (
            Query(sum_rate("rabbitmq_global_messages_received_total"), "received"),
            Query(sum_rate("rabbitmq_global_messages_confirmed_total"), "confirmed"),
            Query(sum_rate("rabbitmq_global_messages_acknowledged_total"), "acknowledged"),
        ),
    ),
    Panel(
        "lines",
        "Unroutable and redelivered",
        "Messages that no queue took (a queue or binding is missing), and messages that were handed over again.",
        "mps",
        (
            Query(UNROUTABLE, "unroutable"),
            Query(sum_rate("rabbitmq_global_messages_redelivered_total"), "redelivered"),
        ),
        thresholds=(Threshold(1, "yellow"),),
    ),
    Panel(
        "lines",
        "Memory by node",
        "Share of the memory at which a node blocks its publishers.",
        "percentunit",
        (Query(MEMORY, "{{instance}}"),),
        thresholds=(Threshold(0.7, "yellow"), Threshold(0.85, "red")),
        maximum=1,
    ),
    Panel(
        "lines",
        "Free disk over its limit",
        "Free space of each node, as a multiple of the limit below which it blocks its publishers.",
        "none",
        (
            Query(
                f"{take_max('rabbitmq_disk_space_available_bytes', 'instance')}"
                f" / {take_max('rabbitmq_disk_space_available_limit_bytes', 'instance')}",
                "{{instance}}",
            ),
        ),
        decimals=1,
    ),
    Panel(
        "lines",
        "Connections and channels",
        "Each process of the shop has a few. A line that only rises is a leak.",
        "none",
        (
            Query(take_sum("rabbitmq_connections"), "connections"),
            Query(take_sum("rabbitmq_channels"), "channels"),
            Query(take_sum("rabbitmq_queues"), "queues"),
        ),
    ),
    Panel(
        "lines",
        "File descriptors",
        "Share of the file descriptors that a node may open.",
        "percentunit",
        (
            Query(
                f"{select('rabbitmq_process_open_fds')} / {select('rabbitmq_process_max_fds')}",
                "{{instance}}",
            ),
        ),
        thresholds=(Threshold(0.8, "red"),),
        maximum=1,
    ),
)

BOARDS = (
    Board(
        "rabbitmq",
        "RabbitMQ",
        "Queues and nodes, as RabbitMQ tells of itself.",
        (
            Row("Does the broker take and give?", NOW),
            Row("Which queue?", QUEUES),
            Row("How are the nodes?", NODE),
        ),
    ),
)
