"""`caravan failures`: what was given up, why, and what to do with it."""

from typing import Any, Literal

import typer

from services.cli.shop import Shop, ask_shop, segment
from services.cli.terminal import fail, print_json, print_line, print_note, print_table

ROUNDS_MAX = 1_000
ITEMS_SHOWN = 100


def list_failures(
    cause: str | None,
    channel: str | None,
    service: str | None,
    limit: int,
    cursor: str | None,
    output: Literal["table", "json"],
    url: str | None,
) -> None:
    filters = {"cause": cause, "channel": channel, "service": service, "limit": limit, "cursor": cursor}
    params: dict[str, str | int] = {name: value for name, value in filters.items() if value is not None}
    found = ask_shop(url, lambda shop: shop.get("/v1/failures", **params))
    if output == "json":
        print_json(found)
    else:
        _print_causes(found)
    raise typer.Exit(1 if found["causes"] or found["partial"] else 0)


def _print_causes(found: dict[str, Any]) -> None:
    if found["causes"]:
        causes = [
            (row["cause"], row["count"], ", ".join(row["subscriptions"]), row["last_at"][:19], row["reason"]) for row in found["causes"]
        ]
        print_table("", ("cause", "#count", "where", "last", "reason"), causes)
        items = [(row["id"], row["subscription"], row["key"], row["attempts"], row["failed_at"][:19]) for row in found["items"]]
        print_table("", ("id", "subscription", "key", "#attempts", "failed at"), items)
    else:
        print_line("no failures")
    if found["next_cursor"]:
        print_line(f"more: --cursor {found['next_cursor']}")
    if found["truncated"]:
        print_line("there are more than a desk reads at once; these are the oldest")
    _warn_of(found)


def _warn_of(answer: dict[str, Any]) -> None:
    if answer["partial"]:
        print_line(f"could not be asked: {', '.join(answer['failed'])}", style="red")


def show(failure_id: str, url: str | None) -> None:
    print_json(ask_shop(url, lambda shop: shop.get(f"/v1/failures/{segment(failure_id)}")))


def _selection(cause: str | None, ids: list[str] | None, subscription: str | None) -> dict[str, Any]:
    given = {name: value for name, value in (("cause", cause), ("ids", ids), ("subscription", subscription)) if value}
    if len(given) != 1:
        fail("say which: ids, or --cause, or --subscription; exactly one of these (`caravan failures list` shows them)")
    return given


def redrive(
    ids: list[str] | None, cause: str | None, subscription: str | None, dry_run: bool, output: Literal["table", "json"], url: str | None
) -> None:
    _carry_out("redrive", {**_selection(cause, ids, subscription), "dry_run": dry_run}, output, url)


def discard(
    reason: str,
    ids: list[str] | None,
    cause: str | None,
    subscription: str | None,
    dry_run: bool,
    output: Literal["table", "json"],
    url: str | None,
) -> None:
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
                "chosen": total.get("chosen", answer["chosen"]),
                "done": done,
                "items": [*total.get("items", []), *answer["items"]],
            }
            if body["dry_run"] or not answer["more"] or not answer["done"]:
                break
            print_note(f"{done} done, going on")
        return total

    found = ask_shop(url, rounds)
    if output == "json":
        print_json(found)
    else:
        _print_outcome(verb, found)
    unknown = _describe_unknown(body, found)
    if unknown:
        print_note(unknown)
    raise typer.Exit(1 if found["held_back"] or found["impossible"] or found["partial"] or unknown else 0)


def _describe_unknown(selection: dict[str, Any], found: dict[str, Any]) -> str:
    """What was asked for and is not among the failures; a service that could not be asked may have it."""
    if found["partial"]:
        return ""
    ids = list(dict.fromkeys(selection.get("ids", ())))
    if len(ids) > found["chosen"]:
        answered = {row["id"] for row in found["items"]}
        names = [identifier for identifier in ids if identifier not in answered][: len(ids) - found["chosen"]]
        return f"no such failure, or redriven or discarded before: {', '.join(names)}; `caravan failures list` shows what there is"
    if not ids and not found["chosen"]:
        name, value = next((name, selection[name]) for name in ("cause", "subscription") if name in selection)
        return f"no failure has the {name} {value}; `caravan failures list` shows what there is"
    return ""


def _print_outcome(verb: str, found: dict[str, Any]) -> None:
    if found["items"]:
        rows = [(row["action"], row["subscription"], row["key"], row["message_id"] or "", row["why"]) for row in found["items"]]
        print_table("", ("what", "subscription", "key", "message", "why"), rows[:ITEMS_SHOWN])
        if len(rows) > ITEMS_SHOWN:
            print_line(f"… and {len(rows) - ITEMS_SHOWN} more; `--output json` has all")
    meant = found["chosen"] - found["held_back"] - found["impossible"]
    told = f"dry run: would {verb} {meant}" if found["dry_run"] else f"{verb}: {found['done']} done"
    print_line(f"{told}, {found['held_back']} held back, {found['impossible']} impossible")
    _warn_of(found)
