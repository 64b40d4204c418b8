"""`caravan failures`: list dead letters by cause, redrive and discard them."""

from typing import Any, Literal

import typer

from cli.api_client import ApiClient, encode_segment, run_with_client
from cli.terminal import exit_with_error, print_json, print_line, print_note, print_table

MAX_ROUNDS = 1_000
MAX_ITEMS_PRINTED = 100


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
    page = run_with_client(url, lambda shop: shop.fetch_json("/v1/failures", **params))
    if output == "json":
        print_json(page)
    else:
        _print_page(page)
    raise typer.Exit(1 if page["causes"] or page["partial"] else 0)


def _print_page(page: dict[str, Any]) -> None:
    if page["causes"]:
        causes = [
            (row["cause"], row["count"], ", ".join(row["subscriptions"]), row["last_at"][:19], row["reason"])
            for row in page["causes"]
        ]
        print_table("", ("cause", "#count", "where", "last", "reason"), causes)
        items = [
            (row["id"], row["subscription"], row["key"], row["attempts"], row["failed_at"][:19])
            for row in page["items"]
        ]
        print_table("", ("id", "subscription", "key", "#attempts", "failed at"), items)
    else:
        print_line("no failures")
    if page["next_cursor"]:
        print_line(f"more: --cursor {page['next_cursor']}")
    if page["truncated"]:
        print_line("there are more than one reading takes; these are the oldest")
    _warn_about_unavailable(page)


def _warn_about_unavailable(response: dict[str, Any]) -> None:
    if response["partial"]:
        print_line(f"unavailable: {', '.join(response['failed'])}", style="red")


def show_failure(failure_id: str, url: str | None) -> None:
    print_json(run_with_client(url, lambda shop: shop.fetch_json(f"/v1/failures/{encode_segment(failure_id)}")))


def _build_selection(cause: str | None, ids: list[str] | None, subscription: str | None) -> dict[str, Any]:
    criteria = {
        name: value for name, value in (("cause", cause), ("ids", ids), ("subscription", subscription)) if value
    }
    if len(criteria) != 1:
        exit_with_error(
            "say which: ids, or --cause, or --subscription; exactly one of these (`caravan failures list` shows them)"
        )
    return criteria


def redrive(
    ids: list[str] | None,
    cause: str | None,
    subscription: str | None,
    dry_run: bool,
    output: Literal["table", "json"],
    url: str | None,
) -> None:
    _run_action("redrive", {**_build_selection(cause, ids, subscription), "dry_run": dry_run}, output, url)


def discard(
    reason: str,
    ids: list[str] | None,
    cause: str | None,
    subscription: str | None,
    dry_run: bool,
    output: Literal["table", "json"],
    url: str | None,
) -> None:
    _run_action(
        "discard", {**_build_selection(cause, ids, subscription), "dry_run": dry_run, "reason": reason}, output, url
    )


def _run_action(action: str, body: dict[str, Any], output: str, url: str | None) -> None:
    async def run_rounds(client: ApiClient) -> dict[str, Any]:
        """As many calls as it takes: one does a bounded number. What fails again meanwhile is not taken again."""
        total: dict[str, Any] = {}
        for _ in range(MAX_ROUNDS):
            bound = {"failed_before": total["as_of"]} if total else {}
            response = (await client.send_request("POST", f"/v1/failures/{action}", body=body | bound)).json()
            done_count = total.get("done", 0) + response["done"]
            total = {
                **response,
                "as_of": total.get("as_of", response["as_of"]),
                "selected": total.get("selected", response["selected"]),
                "done": done_count,
                "items": [*total.get("items", []), *response["items"]],
            }
            if body["dry_run"] or not response["more"] or not response["done"]:
                break
            print_note(f"{done_count} done, going on")
        return total

    result = run_with_client(url, run_rounds)
    if output == "json":
        print_json(result)
    else:
        _print_result(action, result)
    unknown_text = _describe_unknown(body, result)
    if unknown_text:
        print_note(unknown_text)
    raise typer.Exit(1 if result["blocked"] or result["not_redrivable"] or result["partial"] or unknown_text else 0)


def _describe_unknown(selection: dict[str, Any], result: dict[str, Any]) -> str:
    """What was asked for and is not among the failures; a service that could not be asked may have it."""
    if result["partial"]:
        return ""
    ids = list(dict.fromkeys(selection.get("ids", ())))
    if len(ids) > result["selected"]:
        answered_ids = {row["id"] for row in result["items"]}
        names = [identifier for identifier in ids if identifier not in answered_ids][: len(ids) - result["selected"]]
        return (
            f"no such failure, or redriven or discarded before: {', '.join(names)}; `caravan failures list` shows "
            "what there is"
        )
    if not ids and not result["selected"]:
        name, value = next((name, selection[name]) for name in ("cause", "subscription") if name in selection)
        return f"no failure has the {name} {value}; `caravan failures list` shows what there is"
    return ""


def _print_result(action: str, result: dict[str, Any]) -> None:
    if result["items"]:
        rows = [
            (row["action"], row["subscription"], row["key"], row["message_id"] or "", row["reason"])
            for row in result["items"]
        ]
        print_table("", ("action", "subscription", "key", "message", "reason"), rows[:MAX_ITEMS_PRINTED])
        if len(rows) > MAX_ITEMS_PRINTED:
            print_line(f"… and {len(rows) - MAX_ITEMS_PRINTED} more; `--output json` has all")
    redrivable_count = result["selected"] - result["blocked"] - result["not_redrivable"]
    summary = f"dry run: would {action} {redrivable_count}" if result["dry_run"] else f"{action}: {result['done']} done"
    print_line(f"{summary}, {result['blocked']} blocked, {result['not_redrivable']} not redrivable")
    _warn_about_unavailable(result)
