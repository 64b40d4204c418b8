"""A result as a table for people."""

from collections.abc import Callable
from typing import Any

NOTES = """\
Closed loop; the load generator is a process on the same machine.
Paid: the moment of the event `PaymentCompleted` in a random sample of the orders' own histories,
counted from the client's 202; *reads as paid* is what one polling client sees twice a second.
Outbox: every message of every service, as upper bounds of a histogram's buckets.
Cost and statements count everything that the orders cause until none is open, divided by all orders including the
warm-up's. Memory is the largest proportional set size of app, Postgres and Redis together.
Each round ends with a check: accepted = stored = delivered, stock = what was there less what was sold,
money = the payment provider's books. Rates of different moments can't be compared:
the ceilings and the spin loop stand beside each round for that.
"""


def render_markdown(result: dict[str, Any]) -> str:
    machine, postgres = result["machine"], result["postgres"]
    rows: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("orders accepted a second", lambda r: _format_number(r["accepted_per_second"])),
        ("orders paid a second", lambda r: _format_number(r["paid_per_second"])),
        ("202: p50 / p95 / p99, ms", lambda r: _format_times(r["answer_seconds"])),
        ("202 to paid: p50 / p95 / p99, ms", lambda r: _format_times(r["paid_seconds"])),
        ("202 to reads as paid: p50 / p95, ms", lambda r: _format_times(r["read_as_paid_seconds"])),
        (
            "commit to taken by the bus (outbox), at most: p50 / p95 / p99, ms",
            lambda r: _format_times(r["outbox_seconds"]["all"]),
        ),
        ("not yet paid at the end", lambda r: f"{r['backlog_share_at_end']:.2%}"),
        ("seconds until all were paid", lambda r: _format_number(r["backlog_seconds"], 2)),
        ("memory of the whole shop, MiB", lambda r: _format_number((r["memory_mib"] or {}).get("all"))),
        ("SQL statements an order", lambda r: _format_number(r["cost_per_order"]["sql_statements"], 1)),
        ("CPU ms an order: app / Postgres / Redis", lambda r: _format_cpu(r["cost_per_order"])),
        ("commits / messages / reads and writes of the app an order", lambda r: _format_counts(r["cost_per_order"])),
        (
            "CPU ms of the app for an invoice, drawn when asked for",
            lambda r: _format_number(r.get("invoice_cpu_ms"), 2),
        ),
        (
            "ceiling: empty endpoint, requests a second",
            lambda r: _format_number(r["ceilings"]["empty_endpoint_per_second"]),
        ),
        ("ceiling: INSERT + commit a second", lambda r: _format_number(r["ceilings"]["insert_commit_per_second"])),
        ("spin loop before / after, s", lambda r: " / ".join(f"{seconds:.3f}" for seconds in r["spin_seconds"])),
        ("load generator, CPU ms a request", lambda r: _format_number(r["load_generator_cpu_ms_per_request"], 3)),
        ("books", lambda r: f"{len(r['problems'])} problems" if r["problems"] else "right"),
    ]
    heads = [f"{each['clients']} clients" + (", one product" if each["hot"] else "") for each in result["rounds"]]
    lines = [
        f"# Bench of {result['date']}, commit {result['commit']}",
        "",
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, Python {machine['python']}, {machine['system']}; "
        + (
            f"Postgres {postgres['server_version']}, fsync {postgres['fsync']}, synchronous_commit "
            f"{postgres['synchronous_commit']}; "
            if postgres
            else ""
        )
        + (f"{result['transport']}; " if result.get("transport") else "")
        + f"{result['rounds'][0]['seconds']:.0f} s a round; load average at the end {result['load_average'][0]:.1f}.",
        "",
        "| | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 1) + "|",
        *(f"| {name} | " + " | ".join(cell(each) for each in result["rounds"]) + " |" for name, cell in rows),
        "",
        *_format_idle(result),
        NOTES,
    ]
    problems = [
        f"- {head}: {problem}"
        for head, each in zip(heads, result["rounds"], strict=True)
        for problem in each["problems"]
    ]
    return "\n".join([*lines, *(["## Problems", "", *problems, ""] if problems else [])])


def _format_idle(result: dict[str, Any]) -> list[str]:
    idle = result.get("idle")
    if not idle:
        return []
    shares = ", ".join(
        f"{part} {_format_number(idle[f'{part}_percent'], 2)} %" for part in ("app", "postgres", "redis")
    )
    lines = [
        f"At rest, of one core: {shares}; {_format_number(idle['sql_statements_per_second'], 1)} SQL statements a "
        "second.",
        "",
    ]
    services = idle.get("services_percent") or {}
    if services:
        lines += [
            "Of these by process: "
            f"{', '.join(f'{name} {_format_number(share, 2)} %' for name, share in services.items())}.",
            "",
        ]
    return lines


def _format_number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _format_times(percentiles: dict[str, float]) -> str:
    cells = [f"{percentiles[name] * 1000:.0f}" for name in ("p50", "p95", "p99") if name in percentiles]
    return f"{' / '.join(cells) or '–'} (n {percentiles['n']:,.0f})"


def _format_counts(cost: dict[str, float | None]) -> str:
    return " / ".join(_format_number(cost.get(name), 1) for name in ("commits", "messages", "io_calls"))


def _format_cpu(cost: dict[str, float | None]) -> str:
    return " / ".join(_format_number(cost[name], 2) for name in ("app_cpu_ms", "postgres_cpu_ms", "redis_cpu_ms"))
