"""The report of `bench/consumers.py`: a row for each broker and library."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

LIBRARIES = {
    "client": "{client} alone",
    "faststream": "FastStream, acknowledging each message",
    "caravan": "Caravan, up to {batch}",
}


def format_row(result: dict[str, Any]) -> str:
    half_core_rate = result["messages"] / result["cpu_seconds"] / 2
    late = result["late"]
    times, outbox = (
        " / ".join(f"{each[name] * 1000:.0f}" for name in ("p50", "p95", "p99") if name in each)
        for each in (late, result["outbox"])
    )
    spins = " / ".join(f"{each:.3f}" for each in result["spin_seconds"])
    broker, client = ("Kafka", "aiokafka") if result["kind"] == "topic" else ("RabbitMQ", "aio-pika")
    library = LIBRARIES[result["library"]].format(client=client, batch=result["batch"])
    books = "; ".join(result["problems"]) or ("right" if result["library"] == "caravan" else "–")
    return (
        f"| {broker} | {library} | {half_core_rate:,.0f} | "
        f"{result['cpu_seconds'] / result['messages'] * 1000:.3f} | "
        f"{result['messages'] / result['wall_seconds']:,.0f} | {outbox or '–'} | {times or '–'} (n {late['n']:,}) | "
        f"{spins} | {books} |"
    )


HEAD = (
    "| broker | consumer | messages a second of half a core | CPU ms a message | messages a second, as it ran | "
    "at a fixed rate, ms, p50 / p95 / p99: commit to taken by the broker (outbox), at most | commit to handler | spin "
    "before / after, s | books |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def format_report(results: Sequence[dict[str, Any]], load: Sequence[float], explanation: str) -> str:
    return "\n".join(
        [
            f"# Consumers on real brokers, {datetime.now(UTC).isoformat(timespec='seconds')}",
            "",
            f"{os.cpu_count()} cores shared with the brokers, Postgres and whatever else ran: load average "
            f"{load[0]:.1f} before, {os.getloadavg()[0]:.1f} after. Python "
            f"{platform.python_version()}, {results[0]['rate']:g} messages a second in the second part (open loop), "
            "one run each.",
            "",
            HEAD,
            *map(format_row, results),
            "",
            explanation,
            "Caravan's rows are with inbox, effect and commit. The client alone and FastStream only decode "
            "and count the messages and acknowledge them: no inbox, no effect, no database.",
            "",
        ]
    )
