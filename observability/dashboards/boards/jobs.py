"""Background jobs: what waits, how long an attempt takes, and what is late or has failed."""

from observability.dashboards.model import Board, Panel, Query, Row, Threshold
from observability.dashboards.queries import SHOP, or_none, quantile, share, sum_rate, take_max

ATTEMPTS = "caravan_job_duration_seconds"
NOT_TAKEN = f'{SHOP}, state=~"waiting|prioritized"'
FAILED = f'{SHOP}, state="failed"'

NOW = (
    Panel(
        "stat",
        "Jobs waiting",
        "Jobs that no worker has taken yet, in all queues.",
        "short",
        (Query(f"sum({take_max('caravan_jobs', 'queue', NOT_TAKEN)})", "waiting"),),
        width=6,
        height=4,
        thresholds=(Threshold(1000, "yellow"), Threshold(10_000, "red")),
    ),
    Panel(
        "stat",
        "Oldest job that is due",
        "Age of the oldest job that should run now and is not done.",
        "s",
        (Query(take_max("caravan_jobs_oldest_age_seconds"), "oldest"),),
        width=6,
        height=4,
        thresholds=(Threshold(30, "yellow"), Threshold(120, "red")),
    ),
    Panel(
        "stat",
        "Failed jobs",
        "Jobs that used up their attempts and wait for somebody to retry or discard them.",
        "short",
        (Query(f"sum({take_max('caravan_jobs', 'queue', FAILED)})", "failed"),),
        width=6,
        height=4,
        thresholds=(Threshold(1, "red"),),
    ),
    Panel(
        "stat",
        "Attempts per second",
        "Attempts of jobs over all queues.",
        "ops",
        (Query(sum_rate(f"{ATTEMPTS}_count"), "attempts"),),
        width=6,
        height=4,
        decimals=2,
    ),
)

QUEUES = (
    Panel(
        "lines",
        "Jobs by state",
        "Jobs in all queues: waiting, prioritized, active, delayed until their time, paused, failed.",
        "short",
        (Query(f"sum by (state) ({take_max('caravan_jobs', 'queue, state')})", "{{state}}"),),
    ),
    Panel(
        "lines",
        "Waiting jobs by queue",
        "Jobs that no worker has taken yet.",
        "short",
        (Query(take_max("caravan_jobs", "queue", NOT_TAKEN), "{{queue}}"),),
    ),
    Panel(
        "lines",
        "Age of the oldest due job",
        "How long the oldest job has waited beyond its time. A queue that is paused or has no worker rises without "
        "end.",
        "s",
        (Query(take_max("caravan_jobs_oldest_age_seconds", "queue"), "{{queue}}"),),
        thresholds=(Threshold(120, "red"),),
    ),
)

WORK = (
    Panel(
        "lines",
        "Attempts by queue",
        "Attempts per second, whatever came of them.",
        "ops",
        (Query(sum_rate(f"{ATTEMPTS}_count", "queue"), "{{queue}}"),),
        stacked=True,
    ),
    Panel(
        "lines",
        "Failed attempts",
        "Share of attempts that failed and are tried again, or were the last.",
        "percentunit",
        (
            Query(
                share(
                    sum_rate(f"{ATTEMPTS}_count", "queue", f'{SHOP}, result="failed"'),
                    sum_rate(f"{ATTEMPTS}_count", "queue"),
                ),
                "{{queue}}",
            ),
        ),
        thresholds=(Threshold(0.05, "yellow"), Threshold(0.2, "red")),
    ),
    Panel(
        "lines",
        "Duration of an attempt (p95)",
        "95 of 100 attempts took at most this long. A point leads to the trace of a job as slow as that.",
        "s",
        (Query(quantile(0.95, ATTEMPTS, "queue"), "{{queue}}", exemplars=True),),
        thresholds=(Threshold(2.5, "yellow"), Threshold(10, "red")),
    ),
    Panel(
        "lines",
        "Scheduled jobs that ran late",
        "Scheduled jobs per second that ran more than a minute after their time.",
        "ops",
        (Query(or_none(sum_rate("caravan_jobs_late_total", "queue"), "queue"), "{{queue}}"),),
        thresholds=(Threshold(0.001, "yellow"),),
        width=24,
        height=6,
    ),
)

BOARDS = (
    Board(
        "jobs",
        "Jobs",
        "Mails, invoices, sweeps and reports: what runs in the background, and what is late.",
        (
            Row("Is the work done in time?", NOW),
            Row("Which queue?", QUEUES),
            Row("What do the workers do?", WORK),
        ),
    ),
)
