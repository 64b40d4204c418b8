"""The kinds of faults of a proof: what each does, to whom, how long, and on which size of a shop it runs."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.prove.shifted_clock import explain_no_clock
from tests.faults.prove.small_disk import explain_no_disk

LAPTOP, BROKERS, CLUSTER = "laptop", "brokers", "cluster"
ANY = (LAPTOP, BROKERS)
WORKERS = ("orders", "processing", "inventory", "payments", "shipping", "notifications", "analytics")
COMMAND_USERS = ("orders", "processing", "inventory", "payments", "shipping", "notifications")
"""Those that send or take commands."""
TOPIC_READERS = ("orders", "processing", "inventory", "payments", "notifications", "recommendations", "analytics")
"""Those that read topics."""
QUEUES = ("inventory.reserve-stock", "payments.capture", "shipping.ship-order")
ALL = (*WORKERS, "identity", "catalog", "recommendations", "gateway")
FAILPOINTS = (
    # Every order that is paid passes them, most also one that is not; the number says at which batch.
    "orders@orders.place.before_commit",
    "orders@orders.place.after_commit",
    "orders@relay.after_confirm_before_mark:3",
    "processing@processing.advance.before_commit:3",
    "processing@handler.after_commit_before_ack:3",
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


def _links(server: str, services: tuple[str, ...] = WORKERS) -> tuple[str, ...]:
    return tuple(f"{service}>{server}" for service in services)


def _build_broker_kinds(server: str, services: tuple[str, ...]) -> tuple[Kind, ...]:
    """What happens to a broker, and to its links."""
    links = _links(server, services)
    return (
        Kind(f"kill {server}", (BROKERS,), "SIGKILL, and started again on what it had written", (server,), (2.0, 5.0)),
        Kind(f"freeze {server}", (BROKERS,), "SIGSTOP of all its processes", (server,), (2.0, 5.0)),
        Kind(f"cut {server} connections", (BROKERS,), "connections are reset in the middle of what they do", links),
        Kind(f"slow {server} link", (BROKERS,), "each packet takes a fifth of a second", links, (2.0, 5.0)),
        Kind(f"one-way {server} link", (BROKERS,), "requests arrive, answers don't", links, (2.0, 5.0)),
        Kind(f"partition from {server}", (BROKERS,), "connections are cut and new ones refused", links, (2.0, 6.0)),
    )


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
    Kind("repeated deliveries", ANY, "the newest messages come again", ("messages",), (0.0, 0.0)),
    Kind("reordered deliveries", ANY, "old messages come again, shuffled", ("messages",), (0.0, 0.0)),
    Kind("poison", ANY, "what no reader can read, on every topic and queue", ("messages",), (0.0, 0.0)),
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
    Kind("clock jump", ANY, "a process whose clock goes a minute ahead or ten back, and returns", ALL, (3.0, 6.0)),
    *_build_broker_kinds("kafka", WORKERS),
    *_build_broker_kinds("rabbitmq", COMMAND_USERS),
    Kind("rebalance", (BROKERS,), "a second process of a service comes and goes", TOPIC_READERS, (1.0, 3.0)),
    Kind("queue full", (BROKERS,), "RabbitMQ refuses what a queue can't hold", QUEUES, (3.0, 6.0)),
    Kind("rabbitmq out of memory", (BROKERS,), "its alarm blocks who publishes", ("memory",), (2.0, 5.0)),
    Kind("rabbitmq disk full", (BROKERS,), "its alarm blocks who publishes", ("disk",), (2.0, 5.0)),
    Kind("kafka disk full", (BROKERS,), "not one more block fits on its disk", ("kafka",), (2.0, 5.0)),
    Kind("leader lost, too few in sync", (CLUSTER,), "needs three brokers"),
    Kind("failover to a standby", (CLUSTER,), "needs a standby of Postgres"),
    Kind("node lost", (CLUSTER,), "needs several nodes"),
)
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
_EXPLAIN: dict[str, Callable[[], str]] = {"clock jump": explain_no_clock, "kafka disk full": explain_no_disk}
"""Of kinds that need more than the size: why they can't be had on this machine."""


def explain_left_out(size: str) -> dict[str, str]:
    """The kinds that don't run here, and why."""
    reasons = {kind.name: _explain(kind, size) for kind in KINDS}
    return {name: reason for name, reason in reasons.items() if reason}


def _explain(kind: Kind, size: str) -> str:
    if size not in kind.sizes:
        return f"needs {kind.sizes[0]}"
    return _EXPLAIN[kind.name]() if kind.name in _EXPLAIN else ""


def list_runnable(size: str) -> list[Kind]:
    left_out = explain_left_out(size)
    return [kind for kind in KINDS if kind.name not in left_out]
