"""Channels: what is published and consumed, what waits, what comes again, and what was given up."""

from observability.dashboards.model import NAMESPACE, SERVICE, Board, Panel, Query, Row, Threshold
from observability.dashboards.queries import SERVICE as OF_SERVICE
from observability.dashboards.queries import mean, or_none, quantile, share, sum_rate, take_max
from observability.dashboards.red import show_messages

READER = "service, channel"
READER_LEGEND = "{{channel}} → {{service}}"

NOW = (
    Panel(
        "stat",
        "Messages waiting",
        "Messages that no consumer has handled yet, over all channels.",
        "short",
        (Query(f"sum({take_max('caravan_consumer_lag', READER, OF_SERVICE)})", "waiting"),),
        width=6,
        height=4,
        thresholds=(Threshold(1000, "yellow"), Threshold(10_000, "red")),
    ),
    Panel(
        "stat",
        "Oldest message waiting",
        "Age of the oldest message that no consumer has handled yet.",
        "s",
        (Query(take_max("caravan_consumer_lag_seconds", scope=OF_SERVICE), "oldest"),),
        width=6,
        height=4,
        thresholds=(Threshold(30, "yellow"), Threshold(120, "red")),
    ),
    Panel(
        "stat",
        "Oldest row of an outbox",
        "Age of the oldest message that was committed and that its broker has not taken.",
        "s",
        (Query(take_max("caravan_outbox_oldest_age_seconds", scope=OF_SERVICE), "oldest"),),
        width=6,
        height=4,
        thresholds=(Threshold(30, "yellow"), Threshold(120, "red")),
    ),
    Panel(
        "stat",
        "Dead letters",
        "Messages that were given up and wait for somebody to redrive or discard them.",
        "short",
        (Query(f"sum({take_max('caravan_dead_letters_open', READER, OF_SERVICE)}) or vector(0)", "dead letters"),),
        width=6,
        height=4,
        thresholds=(Threshold(1, "yellow"), Threshold(10, "red")),
    ),
)

FLOW = (
    Panel(
        "lines",
        "Published by channel",
        "Messages per second that the bus took from the outboxes.",
        "mps",
        (Query(sum_rate("caravan_messages_published_total", "channel", OF_SERVICE), "{{channel}}"),),
        stacked=True,
    ),
    *show_messages("channel"),
    Panel(
        "lines",
        "Messages per batch",
        "Mean number of messages that one unit of work handles. It grows by itself under load.",
        "short",
        (Query(mean("caravan_batch_messages", "channel", OF_SERVICE), "{{channel}}"),),
        decimals=1,
    ),
    Panel(
        "lines",
        "Results",
        "What came of messages: done, duplicate (handled before, no effect), retry, dead (given up), blocked (waits "
        "behind another of its key).",
        "mps",
        (Query(sum_rate("caravan_messages_handled_total", "result", OF_SERVICE), "{{result}}"),),
    ),
)

WAITING = (
    Panel(
        "lines",
        "Messages waiting by subscription",
        "Messages that a subscription has not handled yet. A line that rises needs more replicas or a faster handler.",
        "short",
        (Query(take_max("caravan_consumer_lag", READER, OF_SERVICE), READER_LEGEND),),
        width=12,
    ),
    Panel(
        "lines",
        "Age of the oldest message by subscription",
        "How long the oldest message has waited. It says more than a count: a slow channel with few messages shows "
        "here.",
        "s",
        (Query(take_max("caravan_consumer_lag_seconds", READER, OF_SERVICE), READER_LEGEND),),
        thresholds=(Threshold(120, "red"),),
        width=12,
    ),
)

OUTBOX = (
    Panel(
        "lines",
        "Rows waiting in outboxes",
        "Messages that were committed and that the bus has not taken yet.",
        "short",
        (Query(take_max("caravan_outbox_pending", "service", OF_SERVICE), "{{service}}"),),
    ),
    Panel(
        "lines",
        "From commit to bus (p95)",
        "Time from the writing of a message until the bus took it, for 95 of 100 messages.",
        "s",
        (Query(quantile(0.95, "caravan_outbox_lag_seconds", "service", OF_SERVICE), "{{service}}"),),
        thresholds=(Threshold(1, "yellow"), Threshold(30, "red")),
    ),
    Panel(
        "lines",
        "Rows set aside",
        "Messages that the bus refused for good. Later messages of their key wait behind them until somebody decides.",
        "short",
        (Query(take_max("caravan_outbox_refused", "service", OF_SERVICE), "{{service}}"),),
        thresholds=(Threshold(1, "red"),),
    ),
)

AGAIN = (
    Panel(
        "lines",
        "Redelivered",
        "Messages per second that the broker handed over again, after a restart or a lost connection.",
        "mps",
        (Query(or_none(sum_rate("caravan_messages_redelivered_total", READER, OF_SERVICE), "channel"), READER_LEGEND),),
    ),
    Panel(
        "lines",
        "Duplicates without effect",
        "Messages per second that had been handled before: the inbox took care of them.",
        "mps",
        (Query(or_none(sum_rate("caravan_inbox_duplicates_total", READER, OF_SERVICE), "channel"), READER_LEGEND),),
    ),
    Panel(
        "lines",
        "Dead letters by subscription",
        "Messages that were given up and wait for somebody. `caravan failures list` shows their reasons.",
        "short",
        (Query(or_none(take_max("caravan_dead_letters_open", READER, OF_SERVICE), "channel"), READER_LEGEND),),
        thresholds=(Threshold(1, "red"),),
    ),
    Panel(
        "lines",
        "Share of retries by service",
        "Share of messages that have to be tried again. Above 20 % dead letters follow within minutes.",
        "percentunit",
        (
            Query(
                share(
                    sum_rate("caravan_messages_handled_total", "service", f'{OF_SERVICE}, result="retry"'),
                    sum_rate("caravan_messages_handled_total", "service", OF_SERVICE),
                ),
                "{{service}}",
            ),
        ),
        thresholds=(Threshold(0.2, "red"),),
        width=12,
    ),
    Panel(
        "lines",
        "Given up",
        "Messages per second that became dead letters.",
        "mps",
        (Query(or_none(sum_rate("caravan_dead_letters_total", READER, OF_SERVICE), "channel"), READER_LEGEND),),
        thresholds=(Threshold(0.001, "red"),),
        width=12,
    ),
)

BOARDS = (
    Board(
        "messaging",
        "Messaging",
        "Every channel, whichever broker carries it: look here when orders wait and requests do not.",
        (
            Row("Does anything wait?", NOW),
            Row("What moves?", FLOW),
            Row("Which subscription is behind?", WAITING),
            Row("Do the outboxes empty?", OUTBOX),
            Row("What comes again, and what was given up?", AGAIN),
        ),
        variables=(NAMESPACE, SERVICE),
    ),
)
