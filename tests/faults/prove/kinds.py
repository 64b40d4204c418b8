"""The kinds of faults of a proof: what each does, to whom, how long, and on which size of a shop it runs."""

from dataclasses import dataclass

LAPTOP, BROKERS, CLUSTER = "laptop", "brokers", "cluster"
ANY = (LAPTOP, BROKERS)
SERVERS = ("postgres", "redis")
WORKERS = ("orders", "processing", "inventory", "payments", "shipping", "notifications", "analytics")
ALL = (*WORKERS, "identity", "catalog", "recommendations", "gateway")
FAILPOINTS = (
    "orders@orders.place.before_commit",
    "orders@orders.place.after_commit",
    "orders@relay.after_confirm_before_mark:10",
    "processing@processing.advance.before_commit:5",
    "processing@handler.after_commit_before_ack:10",
    "inventory@inventory.reserve.before_commit:3",
    "inventory@inventory.ship.before_commit:3",
    "payments@payment.before_call:3",
    "payments@payment.after_call_before_commit:3",
    "shipping@shipment.after_call_before_commit:3",
)


@dataclass(frozen=True, slots=True)
class Kind:
    """`targets`: whom it may strike, of which the plan draws one. `seconds`: the bounds of its length."""

    name: str
    sizes: tuple[str, ...]
    does: str
    targets: tuple[str, ...] = ("shop",)
    seconds: tuple[float, float] = (1.0, 4.0)


def _links(server: str) -> tuple[str, ...]:
    return tuple(f"{service}>{server}" for service in WORKERS)


KINDS = (
    Kind("kill service", ANY, "SIGKILL, and started again", ALL),
    Kind("freeze service", ANY, "SIGSTOP, later SIGCONT: a zombie that thinks it still owns its work", ALL, (3.0, 8.0)),
    Kind("rolling restart", ANY, "SIGTERM and a new process, one service after the other", ("shop",)),
    Kind("crash point", ANY, "the process dies at a named point of its work", FAILPOINTS),
    Kind("kill postgres", ANY, "it ends at once and recovers from its log", ("postgres",)),
    Kind("freeze postgres", ANY, "SIGSTOP of all its processes", ("postgres",), (2.0, 5.0)),
    Kind("kill redis", ANY, "SIGKILL", ("redis",)),
    Kind("freeze redis", ANY, "SIGSTOP", ("redis",), (2.0, 5.0)),
    Kind("flush redis", ANY, "FLUSHALL: jobs, cache and hints are gone", ("redis",), (0.0, 0.0)),
    Kind("cut connections", ANY, "connections are reset in the middle of what they do", _links("postgres")),
    Kind("cut redis connections", ANY, "the same between a service and Redis", _links("redis")),
    Kind("slow link", ANY, "each packet takes a fifth of a second", _links("postgres")),
    Kind("sliced link", ANY, "packets of a few bytes each", _links("postgres")),
    Kind("one-way link", ANY, "requests arrive, answers don't", _links("postgres")),
    Kind("partition", ANY, "connections are cut and new ones refused", _links("postgres"), (2.0, 6.0)),
    Kind("repeated deliveries", (LAPTOP,), "the newest messages of all topics come again", ("topics",), (0.0, 0.0)),
    Kind("reordered deliveries", (LAPTOP,), "old messages come again, shuffled", ("topics",), (0.0, 0.0)),
    Kind("poison", (LAPTOP,), "what no reader can read, on every topic", ("topics",), (0.0, 0.0)),
    Kind("provider slow", ANY, "1.6 s for each answer", ("payment", "shipping"), (4.0, 6.0)),
    Kind("provider failing", ANY, "connections to third parties break", ("payment", "shipping"), (4.0, 6.0)),
    Kind("provider timeout after success", ANY, "cards are charged, the answers lost", ("payment",), (3.0, 5.0)),
    Kind("provider declining", ANY, "every charge is declined", ("payment",), (3.0, 4.0)),
    Kind("handler failing", ANY, "the first attempt of each message fails", WORKERS, (3.0, 5.0)),
    Kind("consumer stuck", ANY, "no batch is handled", WORKERS, (3.0, 6.0)),
    Kind("outbox blocked", ANY, "what is committed is not sent", WORKERS, (3.0, 6.0)),
    Kind("database slow", ANY, "each transaction waits a second before it begins", WORKERS, (3.0, 5.0)),
    Kind("event loop blocked", ANY, "a third of each second", ("shop",), (3.0, 5.0)),
    Kind("cache unavailable", ANY, "the Redis of the cache does not answer", ("shop",), (3.0, 5.0)),
    Kind("projection rebuild", ANY, "the read model of orders is built anew meanwhile", ("order_summary",), (0.0, 0.0)),
    Kind("kill kafka", (BROKERS,), "SIGKILL", ("kafka",), (2.0, 5.0)),
    Kind("freeze kafka", (BROKERS,), "SIGSTOP", ("kafka",), (2.0, 5.0)),
    Kind("kill rabbitmq", (BROKERS,), "SIGKILL", ("rabbitmq",), (2.0, 5.0)),
    Kind("freeze rabbitmq", (BROKERS,), "SIGSTOP", ("rabbitmq",), (2.0, 5.0)),
    Kind("rebalance", (BROKERS,), "a second reader of each group comes and goes", WORKERS),
    Kind("queue full", (BROKERS,), "RabbitMQ refuses what a queue can't hold", ("payments.capture",)),
    Kind("broker disk full", (CLUSTER,), "a volume without space"),
    Kind("leader lost, too few in sync", (CLUSTER,), "needs three brokers"),
    Kind("failover to a standby", (CLUSTER,), "needs a standby of Postgres"),
    Kind("node lost", (CLUSTER,), "needs several nodes"),
    Kind("clock jump", (CLUSTER,), "a process whose clock is 10 minutes off; in one process: make schedules"),
)
RUNNABLE = {LAPTOP: {kind.name for kind in KINDS if LAPTOP in kind.sizes}}
"""The kinds that `make prove` can do today, by size."""
FLAGS = {
    "provider slow": "provider-slow",
    "provider failing": "provider-failing",
    "provider declining": "provider-refusing",
    "handler failing": "handler-failing",
    "consumer stuck": "consumer-stuck",
    "outbox blocked": "outbox-blocked",
    "database slow": "database-slow",
    "event loop blocked": "event-loop-blocked",
    "cache unavailable": "cache-unavailable",
}
"""What the switch of `caravan faults` does."""
