"""`caravan failures`: what was given up, why, and what to do with it."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import orjson
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from caravan import telemetry
from services.cli.serve import fail
from services.cli.shop import Away, Refused, Shop, open_shop

app = typer.Typer(
    help="The failure desk: messages and jobs that were given up, by cause. Look (`list`, `show`), mend what was wrong, then `redrive`, with --dry-run first.",
    no_args_is_help=True,
)
Url = Annotated[str | None, typer.Option(help="Address of the gateway. Default: CARAVAN_PORT on this machine.", show_default=False)]
Output = Annotated[Literal["table", "json"], typer.Option(help="How to print it.")]
CauseOption = Annotated[str | None, typer.Option(help="All of this cause; see `caravan failures list`.", show_default=False)]
SubscriptionOption = Annotated[
    str | None, typer.Option(help="All of this subscription, such as `inventory.reserve-stock`.", show_default=False)
]
Ids = Annotated[list[str] | None, typer.Argument(help="Just these, by id.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
PATIENCE_SECONDS = 10.0
ROUNDS_MAX = 1_000


def _ask(url: str | None, ask: Callable[[Shop], Awaitable[Any]]) -> Any:
    telemetry.configure_logs("warning", "text")

    async def asked() -> Any:
        async with open_shop(url, lambda line: typer.echo(line, err=True), connections=2, patience=PATIENCE_SECONDS) as shop:
            return await ask(shop)

    try:
        return uvloop.run(asked())
    except (Refused, Away) as error:
        fail(str(error))


def _print_json(value: Any) -> None:
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


@app.command("list")
def list_failures(
    cause: CauseOption = None,
    channel: Annotated[str | None, typer.Option(help="Only messages of this channel.", show_default=False)] = None,
    service: Annotated[str | None, typer.Option(help="Only what this service gave up.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many single failures to print.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="`next_cursor` of the page before.", show_default=False)] = None,
    output: Output = "table",
    url: Url = None,
) -> None:
    """Print the causes, the most frequent first, and the oldest failures. Exit status 1 when there are any, or a service could not be asked."""
    filters = {"cause": cause, "channel": channel, "service": service, "limit": limit, "cursor": cursor}
    params: dict[str, str | int] = {name: value for name, value in filters.items() if value is not None}
    found = _ask(url, lambda shop: shop.get("/v1/failures", **params))
    if output == "json":
        _print_json(found)
    else:
        _print_causes(found)
    raise typer.Exit(1 if found["causes"] or found["partial"] else 0)


def _print_causes(found: dict[str, Any]) -> None:
    console = Console()
    if found["causes"]:
        causes = Table("cause", "count", "where", "last", "reason")
        for row in found["causes"]:
            causes.add_row(row["cause"], str(row["count"]), "\n".join(row["subscriptions"]), row["last_at"][:19], row["reason"][:300])
        items = Table("id", "subscription", "key", "attempts", "failed at")
        items.columns[0].overflow = "fold"
        for row in found["items"]:
            items.add_row(row["id"], row["subscription"], row["key"], str(row["attempts"]), row["failed_at"][:19])
        console.print(causes)
        console.print(items)
    else:
        console.print("no failures")
    if found["next_cursor"]:
        console.print(f"more: --cursor {found['next_cursor']}", soft_wrap=True)
    if found["truncated"]:
        console.print("there are more than a desk reads at once; these are the oldest")
    _warn_of(console, found)


def _warn_of(console: Console, answer: dict[str, Any]) -> None:
    if answer["partial"]:
        console.print(f"[red]could not be asked: {', '.join(answer['failed'])}[/red]")


@app.command()
def show(failure_id: Annotated[str, typer.Argument(help="Its id; see `caravan failures list`.")], url: Url = None) -> None:
    """Print one failure as JSON: reason, origin, attempts, trace id, and the message without secrets."""
    _print_json(_ask(url, lambda shop: shop.get(f"/v1/failures/{failure_id}")))


def _selection(cause: str | None, ids: list[str] | None, subscription: str | None) -> dict[str, Any]:
    given = {name: value for name, value in (("cause", cause), ("ids", ids), ("subscription", subscription)) if value}
    if len(given) != 1:
        fail("say which: ids, or --cause, or --subscription; exactly one of these (`caravan failures list` shows them)")
    return given


@app.command()
def redrive(
    ids: Ids = None,
    cause: CauseOption = None,
    subscription: SubscriptionOption = None,
    dry_run: DryRun = False,
    output: Output = "table",
    url: Url = None,
) -> None:
    """Give failures to their handlers again, in the order of their keys. What had its effect already has no second one. Exit status 1 when some were left."""
    _carry_out("redrive", {**_selection(cause, ids, subscription), "dry_run": dry_run}, output, url)


@app.command()
def discard(
    reason: Annotated[str, typer.Option(help="Why they are not needed; kept in the audit log.")],
    ids: Ids = None,
    cause: CauseOption = None,
    subscription: SubscriptionOption = None,
    dry_run: DryRun = False,
    output: Output = "table",
    url: Url = None,
) -> None:
    """Remove failures for good. Exit status 1 when some were left."""
    _carry_out("discard", {**_selection(cause, ids, subscription), "dry_run": dry_run, "reason": reason}, output, url)


def _carry_out(verb: str, body: dict[str, Any], output: str, url: str | None) -> None:
    async def rounds(shop: Shop) -> dict[str, Any]:
        """As many calls as it takes: one does a bounded number. What fails again meanwhile is not taken again."""
        total: dict[str, Any] = {}
        for _ in range(ROUNDS_MAX):
            until = {"failed_before": total["as_of"]} if total else {}
            answer = (await shop.call("POST", f"/v1/failures/{verb}", body=body | until)).json()
            done = total.get("done", 0) + answer["done"]
            total = {
                **answer,
                "as_of": total.get("as_of", answer["as_of"]),
                "done": done,
                "items": [*total.get("items", []), *answer["items"]],
            }
            if body["dry_run"] or not answer["more"] or not answer["done"]:
                break
            typer.echo(f"{done} done, going on", err=True)
        return total

    found = _ask(url, rounds)
    if output == "json":
        _print_json(found)
    else:
        _print_outcome(verb, found)
    raise typer.Exit(1 if found["held_back"] or found["impossible"] or found["partial"] else 0)


def _print_outcome(verb: str, found: dict[str, Any]) -> None:
    console = Console()
    if found["items"]:
        table = Table("what", "subscription", "key", "message", "why")
        for row in found["items"][:100]:
            table.add_row(row["action"], row["subscription"], row["key"], row["message_id"] or "", row["why"])
        console.print(table)
    meant = found["chosen"] - found["held_back"] - found["impossible"]
    told = f"dry run: would {verb} {meant}" if found["dry_run"] else f"{verb}: {found['done']} done"
    console.print(f"{told}, {found['held_back']} held back, {found['impossible']} impossible")
    _warn_of(console, found)
