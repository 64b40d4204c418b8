"""The commands with subcommands: their names, options and help. What they do is in the modules of their names, imported
only when one runs.
"""

from typing import Annotated, Literal

import typer

from cli.options import CauseOption, DryRun, FailureIds, JobId, JobIds, OrderId, Output, SubscriptionOption, Url

State = Literal["active", "waiting", "delayed", "failed", "completed"]
Cleanable = Literal["waiting", "delayed", "failed", "completed"]
projections = typer.Typer(help="Read models: list them, build one anew from the events.", no_args_is_help=True)
orders = typer.Typer(help="One order: its timeline, and its events folded step by step.", no_args_is_help=True)
failures = typer.Typer(
    help=(
        "Dead letters: messages and jobs that were given up, by cause. See them (`list`, `show`), mend the cause, then "
        "`redrive`, with --dry-run first."
    ),
    no_args_is_help=True,
)
jobs = typer.Typer(
    help=(
        "Background jobs: list them, look into one, retry, promote, remove, clean, pause a queue. Looking needs no "
        "running service; what is done goes through the shop and is in its audit log."
    ),
    no_args_is_help=True,
)
topology = typer.Typer(
    help=(
        "Topics, queues, exchanges, bindings and policies as the services declare them, on the Kafka and RabbitMQ of "
        "CARAVAN_KAFKA_URL and CARAVAN_RABBITMQ_URL."
    ),
    no_args_is_help=True,
)


@projections.command("list")
def list_projections() -> None:
    """The read models that can be rebuilt, and whose they are."""
    from cli import projections as command

    command.list_projections()


@projections.command("rebuild")
def rebuild_projection(name: Annotated[str, typer.Argument(help="Which one; see `caravan projections list`.")]) -> None:
    """Build a read model anew beside the live one, compare them, and put right what differs. Orders go on meanwhile.

    Exit status 1 when the live one was not equal to the byte: it is right now, but something had gone wrong.
    """
    from cli import projections as command

    command.rebuild_projection(name)


@orders.command("show")
def show_order(
    order_id: OrderId,
    since: Annotated[
        str | None, typer.Option("--from", help="What changed after this moment (RFC 3339).", show_default=False)
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="... and until this one; now, when left out.", show_default=False)
    ] = None,
    output: Output = "table",
    url: Url = None,
) -> None:
    """Print all that happened to an order, in the order of its causes; `--output json` exports it.

    Exit status 1 when something is missing: it says what, and why.
    """
    from cli import orders as command

    command.show_order(order_id, since, until, output, url)


@orders.command("replay")
def replay_order(order_id: OrderId, url: Url = None) -> None:
    """Fold the events of an order step by step, print what each changes, and compare the end with the read side.
    Nothing is written.

    Exit status 1 when the read side differs.
    """
    from cli import orders as command

    command.replay_order(order_id, url)


@failures.command("list")
def list_failures(
    cause: CauseOption = None,
    channel: Annotated[str | None, typer.Option(help="Only messages of this channel.", show_default=False)] = None,
    service: Annotated[str | None, typer.Option(help="Only what this service gave up.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many single failures to print.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="`next_cursor` of the page before.", show_default=False)] = None,
    output: Output = "table",
    url: Url = None,
) -> None:
    """Print the causes, the most frequent first, and the oldest failures. Exit status 1 when there are any, or a
    service is unavailable.
    """
    from cli import failures as command

    command.list_failures(cause, channel, service, limit, cursor, output, url)


@failures.command("show")
def show_failure(
    failure_id: Annotated[str, typer.Argument(help="Its id; see `caravan failures list`.")], url: Url = None
) -> None:
    """Print one failure as JSON: reason, origin, attempts, trace id, and the message without secrets."""
    from cli import failures as command

    command.show_failure(failure_id, url)


@failures.command("redrive")
def redrive_failures(
    ids: FailureIds = None,
    cause: CauseOption = None,
    subscription: SubscriptionOption = None,
    dry_run: DryRun = False,
    output: Output = "table",
    url: Url = None,
) -> None:
    """Give failures to their handlers again, in the order of their keys. What had its effect already has no second one.
    Exit status 1 when some were left, or are not there.
    """
    from cli import failures as command

    command.redrive(ids, cause, subscription, dry_run, output, url)


@failures.command("discard")
def discard_failures(
    reason: Annotated[str, typer.Option(help="Why they are not needed; kept in the audit log.")],
    ids: FailureIds = None,
    cause: CauseOption = None,
    subscription: SubscriptionOption = None,
    dry_run: DryRun = False,
    output: Output = "table",
    url: Url = None,
) -> None:
    """Remove failures for good. Exit status 1 when some were left, or are not there."""
    from cli import failures as command

    command.discard(reason, ids, cause, subscription, dry_run, output, url)


@jobs.command("queues")
def list_queues(output: Output = "table") -> None:
    """Every queue: jobs by state, its schedule with time zone and next time."""
    from cli import jobs as command

    command.list_queues(output)


@jobs.command("list")
def list_jobs(
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    queue: Annotated[str | None, typer.Option(help="Only those of this queue.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most jobs to list.")] = 50,
    output: Output = "table",
) -> None:
    """Jobs by queue and state, the oldest first."""
    from cli import jobs as command

    command.list_jobs(state, queue, limit, output)


@jobs.command("show")
def show_job(job_id: JobId, output: Output = "table") -> None:
    """One job with payload, attempts, progress, result or reason, and trace id."""
    from cli import jobs as command

    command.show_job(job_id, output)


@jobs.command("retry")
def retry_jobs(job_ids: JobIds, url: Url = None) -> None:
    """Give failed jobs all their attempts again."""
    from cli import jobs as command

    command.retry_jobs(job_ids, url)


@jobs.command("promote")
def promote_jobs(job_ids: JobIds, url: Url = None) -> None:
    """Let delayed jobs run now."""
    from cli import jobs as command

    command.promote_jobs(job_ids, url)


@jobs.command("remove")
def remove_jobs(job_ids: JobIds, url: Url = None) -> None:
    """Take jobs out of their queues. What they were about is still in the services' databases, and may bring a job of
    it again.
    """
    from cli import jobs as command

    command.remove_jobs(job_ids, url)


@jobs.command("clean")
def clean_queue(
    queue: Annotated[str, typer.Argument(help="Which queue; see `caravan jobs queues`.")],
    state: Annotated[Cleanable, typer.Option(help="Jobs in this state.")] = "completed",
    older_than: Annotated[int, typer.Option(min=0, metavar="SECONDS", help="Only those in it for longer.")] = 0,
    url: Url = None,
) -> None:
    """Remove the jobs of a queue that are in a state."""
    from cli import jobs as command

    command.clean_queue(queue, state, older_than, url)


@jobs.command("pause")
def pause_queue(
    queue: Annotated[str, typer.Argument(help="Which queue; see `caravan jobs queues`.")], url: Url = None
) -> None:
    """Take no further job of a queue, in any process."""
    from cli import jobs as command

    command.pause_queue(queue, url)


@jobs.command("resume")
def resume_queue(
    queue: Annotated[str, typer.Argument(help="Which queue; see `caravan jobs queues`.")], url: Url = None
) -> None:
    """Go on with a paused queue."""
    from cli import jobs as command

    command.resume_queue(queue, url)


@topology.command("apply")
def apply_topology(
    grow_partitions: Annotated[
        bool,
        typer.Option(
            "--grow-partitions",
            help="Also add partitions to topics that have fewer than declared. Keys move to other partitions.",
        ),
    ] = False,
) -> None:
    """Make what is missing and set what differs. Nothing is deleted or shrunk; running it again does nothing.

    Waits for brokers that are still starting, for at most CARAVAN_START_SECONDS. Exit status 3 when something is left
    that only a person may change; it says what.
    """
    from cli import topology as command

    command.apply_topology(grow_partitions)


@topology.command("diff")
def diff_topology(
    allow_foreign: Annotated[
        bool,
        typer.Option(
            "--allow-foreign",
            help="Brokers shared with others: show what nobody declared, but don't count it as drift.",
        ),
    ] = False,
) -> None:
    """Show what is missing on the brokers, what is different, and what nobody declared. Changes nothing. Exit status 3
    when there is drift.
    """
    from cli import topology as command

    command.diff_topology(allow_foreign)


@topology.command("render")
def render_topology(
    replicas: Annotated[int, typer.Option(min=1, max=32, help="Replicas of each topic.")] = 1,
) -> None:
    """Print the operator's custom resources as YAML: `caravan topology render | kubectl apply -f -`. Needs no broker.

    They refer to a KafkaConnection `kafka` and a RabbitMQConnection `rabbitmq` in the same namespace.
    """
    from cli import topology as command

    command.render_topology(replicas)
