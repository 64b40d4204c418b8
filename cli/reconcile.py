"""`caravan reconcile`: compare the books now, say what does not add up, and repair what a command corrects."""

import asyncio
import time
from typing import Any, Literal

import typer

from caravan.times import parse_time
from cli.api_client import ApiClient, run_with_client
from cli.terminal import exit_with_error, print_json, print_line, print_table, show_spinner

POLL_SECONDS, RETRY_SECONDS = 0.5, 2.0
UNSETTLED = ("open", "awaiting_approval", "repairing")
REPAIR_COLUMNS = ("gap", "subject", "#amount", "repair", "outcome")
CASE_COLUMNS = ("gap", "subject", "#amount", "state", "case", "what to do")


def reconcile_books(
    mode: Literal["changes", "full"],
    repair: bool,
    dry_run: bool,
    max_seconds: float,
    output: Literal["table", "json"],
    url: str | None,
) -> None:
    result = run_with_client(url, lambda client: _reconcile(client, mode, repair, dry_run, max_seconds))
    if output == "json":
        print_json(result)
    else:
        _print_result(result)
    raise typer.Exit(1 if result["cases"] else 0)


async def _reconcile(client: ApiClient, mode: str, repair: bool, dry_run: bool, max_seconds: float) -> dict[str, Any]:
    run = await run_comparison(client, mode, max_seconds)
    repairs: list[dict[str, Any]] = []
    if repair:
        response = await client.send_request("POST", "/v1/reconciliation/repairs", body={"dry_run": dry_run})
        repairs = response.json()["items"]
    return {"run": run, "repairs": repairs, "cases": await list_unsettled(client)}


async def compare_all_until_now(client: ApiClient, max_seconds: float) -> None:
    """Compare until all that has happened by now is compared, which takes a minute: what is younger is left alone."""
    deadline = time.monotonic() + max_seconds
    run = await run_comparison(client, "changes", max_seconds)
    asked_at = parse_time(run["requested_at"])
    while parse_time(run["watermark"]) <= asked_at:
        if time.monotonic() > deadline:
            exit_with_error(f"not compared within {max_seconds:g} s: {run['held_by'] or 'what is new is left alone'}")
        await asyncio.sleep(RETRY_SECONDS)
        run = await run_comparison(client, "changes", max_seconds)


async def run_comparison(client: ApiClient, mode: str, max_seconds: float) -> dict[str, Any]:
    response = await client.send_request("POST", "/v1/reconciliation/runs", body={"mode": mode})
    path = f"/v1/reconciliation/runs/{response.json()['id']}"
    deadline = time.monotonic() + max_seconds
    with show_spinner("comparing the books") as update:
        while True:
            run: dict[str, Any] = await client.fetch_json(path)
            if run["state"] == "done":
                return run
            if run["state"] == "failed":
                exit_with_error(f"the comparison failed: {run['reason']}")
            if time.monotonic() > deadline:
                exit_with_error(
                    f"the comparison has not ended within {max_seconds:g} s; GET {path} tells how far it is"
                )
            update(f"comparing the books: {run['orders']:,} orders")
            await asyncio.sleep(POLL_SECONDS)


async def list_unsettled(client: ApiClient) -> list[dict[str, Any]]:
    """All cases that are not settled, the newest first."""
    found: list[dict[str, Any]] = []
    for state in UNSETTLED:
        cursor = ""
        while cursor is not None:
            page = await client.fetch_json(
                "/v1/reconciliation/cases", state=state, limit=100, **({"cursor": cursor} if cursor else {})
            )
            found += page["items"]
            cursor = page["next_cursor"]
    return found


def _print_result(result: dict[str, Any]) -> None:
    run = result["run"]
    print_line(
        f"{run['orders']:,} orders and {run['products']:,} products compared up to {run['watermark'][:19]};"
        f" {run['opened']} cases opened, {run['closed']} closed"
    )
    if run["held_by"]:
        print_line(f"what is newer waits: {run['held_by']}", style="yellow")
    if result["repairs"]:
        rows = [
            (plan["gap"], plan["subject"], _format_money(plan["amount"]), plan["repair"], plan["outcome"])
            for plan in result["repairs"]
        ]
        print_table("repairs", REPAIR_COLUMNS, rows)
    if result["cases"]:
        cases = [
            (case["gap"], case["subject"], _format_money(case["amount"]), case["state"], case["id"], case["action"])
            for case in result["cases"]
        ]
        print_table("cases", CASE_COLUMNS, cases)
    else:
        print_line("the books agree")


def _format_money(amount: dict[str, Any] | None) -> str:
    return f"{amount['amount']} {amount['currency']}" if amount else ""
