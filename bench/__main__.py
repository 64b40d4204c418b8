"""`python -m bench`: rounds of load against a shop of its own, with ceilings and checks; writes
bench/results/<date>-<commit>.json and .md.
"""

import asyncio
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import httpx2
import typer

from bench.report import render_markdown
from bench.rounds import RoundPlan, measure_idle, measure_round, prepare_shop
from bench.shop_process import Target, start_own_shop
from caravan import embedded, settings
from cli.api_client import ApiClient, read_operator_secret

RESULTS = Path(__file__).parent / "results"


def main(
    seconds: Annotated[float, typer.Option(min=1, help="Length of each round.")] = 60,
    clients: Annotated[str, typer.Option(help="A round for each of these numbers of clients.")] = "8,32",
    repeat: Annotated[int, typer.Option(min=1, help="Go through the rounds so many times, interleaved.")] = 1,
    hot: Annotated[bool, typer.Option("--hot", help="Also a round in which everybody buys the same product.")] = False,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds of load before each round that don't count.")] = 3,
    idle: Annotated[
        bool,
        typer.Option(
            "--idle", help="Also what the shop costs when nobody asks anything of it: 120 s after 60 s of rest."
        ),
    ] = False,
    apart: Annotated[
        bool, typer.Option("--apart", help="A process for each service, as on brokers; --idle then tells of each.")
    ] = False,
    url: Annotated[str, typer.Option(help="Measure a running shop instead; its limits per client must be off.")] = "",
    kafka: Annotated[
        str,
        typer.Option(
            help="With --amqp: a shop with a process per service on this (empty) Kafka, such as 127.0.0.1:9092."
        ),
    ] = "",
    amqp: Annotated[str, typer.Option(help="RabbitMQ, such as amqp://user:password@127.0.0.1/.")] = "",
    management: Annotated[str, typer.Option(help="RabbitMQ's management API; by default beside it.")] = "",
    results: Annotated[Path, typer.Option(help="Folder for the result files.")] = RESULTS,
) -> None:
    """Measure orders a second, accepted and paid. Exit status 1 when a round's books are wrong: a wrong round has no
    number.
    """
    plans = [RoundPlan(int(number), seconds, warm_up, False, min(5.0, seconds)) for number in clients.split(",")]
    plans += [RoundPlan(plans[0].clients, seconds, warm_up, True, min(5.0, seconds))] if hot else []
    result = asyncio.run(run(plans * repeat, idle, url, _read_broker_settings(kafka, amqp, management), apart))
    text = render_markdown(result)
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{result['date'][:10]}-{result['commit']}"
    path.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(text)
    print(text)
    print(f"written to {path.with_suffix('.json')} and .md")
    if any(each["problems"] for each in result["rounds"]):
        raise typer.Exit(1)


def _read_broker_settings(kafka: str, amqp: str, management: str) -> dict[str, str]:
    """The settings of a shop on them."""
    settings_by_name = {
        "CARAVAN_KAFKA_URL": kafka,
        "CARAVAN_RABBITMQ_URL": amqp,
        "CARAVAN_RABBITMQ_MANAGEMENT_URL": management,
    }
    if bool(kafka) != bool(amqp):
        raise typer.BadParameter("--kafka and --amqp go together")
    return {name: value for name, value in settings_by_name.items() if value}


async def run(
    plans: list[RoundPlan], idle: bool, url: str, brokers: Mapping[str, str], apart: bool = False
) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        target = (
            find_running_shop(url) if url else await stack.enter_async_context(start_own_shop(brokers, apart=apart))
        )
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=target.url, timeout=60))
        kernel = settings.load_kernel() if url else settings.Settings(data=target.data or Path())
        api = ApiClient(http, read_operator_secret(kernel), print)
        emails = await prepare_shop(api)
        rounds = []
        for plan in plans:
            label = f"{plan.clients} clients{', one product' if plan.hot else ''}"
            print(f"{label}: {plan.seconds:.0f} s ...", flush=True)
            rounds.append(await measure_round(api, target, emails, plan))
            last = rounds[-1]
            print(
                f"{label}: {last['accepted_per_second']:.0f} accepted, {last['paid_per_second']:.0f} paid a second",
                *last["problems"],
                sep="\n  ",
                flush=True,
            )
        return {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": read_commit(),
            "transport": ("Kafka and RabbitMQ" if brokers else "as the shop is set")
            + (", a process per service" if brokers or apart else ""),
            **await describe_machine(target),
            "rounds": rounds,
            **({"idle": await measure_idle(target)} if idle else {}),
        }


def find_running_shop(url: str) -> Target:
    """Its processes can be measured when the data folder of the settings is theirs."""
    data = settings.load_kernel().data
    return Target(url, data if embedded.find_users(data) else None)


def read_commit() -> str:
    def run_git(*arguments: str) -> str:
        completed = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
        return completed.stdout.strip() if completed.returncode == 0 else ""

    return (run_git("rev-parse", "--short", "HEAD") or "uncommitted") + (
        "-changed" if run_git("status", "--porcelain", "--", "caravan", "services", "cli") else ""
    )


async def describe_machine(target: Target) -> dict[str, Any]:
    servers = embedded.find_running(target.data) if target.data else None
    postgres: dict[str, str] = {}
    if servers:
        connection = await asyncpg.connect(servers.database_url)
        try:
            postgres = {
                name: await connection.fetchval(f"SHOW {name}")
                for name in ("server_version", "fsync", "synchronous_commit")
            }
        finally:
            await connection.close()
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "machine": {
            "cores": os.cpu_count(),
            "memory_gib": round(memory_gib, 1),
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "load_average": os.getloadavg(),
        "postgres": postgres,
        "unix_time": time.time(),
    }


if __name__ == "__main__":
    typer.run(main)
