"""Names are the field's own: words that only this project used for things which have a name are refused.

`WORDS` is the one list of them, each with what to write instead.
A word is refused wherever it stands in a name, also in that of a setting, a metric or a field of a schema.
The sentences that name tests, and texts, are not looked at.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from tools.naming import ROOT, list_definitions

FOLDERS = ("caravan", "services", "cli", "operator", "tools", "bench", "observability", "tests")

WORDS = {
    "answer_seconds": "timeout_seconds",
    "arrivals": "deliveries, initial_sync",
    "ask_again": "requery",
    "asked_for": "notification_for",
    "awake": "available_channels",
    "away": "unavailable",
    "bring": "import",
    "brought": "import_result",
    "bury": "dead_letter",
    "by_registry": "SnapshotDiscovery",
    "by_snapshot": "SnapshotDiscovery",
    "chosen": "selected",
    "coalesced": "DataLoader",
    "commanded": "from_command",
    "crash_at": "failpoint",
    "crash_point": "failpoint",
    "deaf": "stale",
    "deed": "action",
    "deeds": "actions",
    "desk": "dead_letters, admin",
    "desks": "dead_letters, admin",
    "died_at": "dead_lettered_at",
    "door": "entry point, app",
    "doors": "entry points",
    "drawer": "invoice_renderer",
    "drawing": "rendering",
    "drawings": "renderer",
    "element": "declared_object",
    "elements": "declared_objects",
    "endings": "deletions",
    "everywhere": "global_concurrency",
    "face": "public API",
    "faces": "public API",
    "findings": "diff",
    "for_good": "permanent",
    "gather_seconds": "debounce_seconds",
    "gave_up": "cancelled",
    "give_back": "refund, receive_return",
    "granting": "token_grants",
    "grouped": "GroupCommit, group_by",
    "hand_over": "dispatch",
    "held_back": "blocked",
    "impossible": "not_redrivable",
    "judge": "compare",
    "judged": "compared, checked",
    "knob": "setting",
    "knobs": "settings, options",
    "lane": "priority",
    "lanes": "priorities",
    "learn": "apply",
    "line_up": "enqueue_behind",
    "look": "browse, read",
    "looks": "reads",
    "news": "events, reports",
    "not_possible": "StockRuleViolation",
    "note_death": "record_dead_letter",
    "nudge": "wake",
    "nudged": "woken",
    "parking": "retry_buffer",
    "patience": "max_wait_seconds",
    "patiently": "retry_until_available",
    "places": "origins, paths, locations",
    "put_back": "requeue",
    "registering": "registration",
    "remembered": "last_applied",
    "remind": "resend_overdue",
    "rival": "conflict",
    "room": "module, layer",
    "rooms": "modules, layers",
    "said": "conditions, output",
    "see_arrivals": "poll_deliveries",
    "seen_without": "checks_without_consumer",
    "shelf": "stock_ledger",
    "shelves": "stock_ledgers",
    "something_happened": "notify_on_event",
    "standing": "customer_status",
    "standing_seconds": "customer_status_seconds",
    "standings": "customer_statuses",
    "staying": "active",
    "take_away": "remove",
    "take_back": "receive_return",
    "take_in": "apply",
    "take_leaving": "claim_due_pickups",
    "take_travelling": "claim_in_transit",
    "thing": "ref, object",
    "things": "refs, objects",
    "told": "events, reported",
    "tries": "attempts",
    "triggered": "notify_on_event",
    "trouble": "failure",
    "troubles": "failures",
    "undelivered": "PublishError",
    "unspoken": "DEFAULT_POLICY",
    "wanted": "desired, expected",
}
ALLOWED = {"services/inventory/messages.py: wanted"}
"""Fields of messages that were sent, which keep their names."""


def split_words(name: str) -> list[str]:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_").split("_")


def find_old_words(name: str) -> list[str]:
    """The words of the list that stand in a name, as whole words of it."""
    joined = f"_{'_'.join(split_words(name))}_"
    return [word for word in WORDS if f"_{word}_" in joined]


@cache
def list_names(folder: str) -> list[tuple[str, str, int]]:
    """Each name of a folder with its file and line; no sentence that names a test."""
    return [
        (definition.name, str(definition.file.relative_to(ROOT)), definition.line)
        for definition in list_definitions(folder)
        if not (definition.kind == "function" and definition.name.startswith("test_"))
    ] + list(list_metric_names(folder))


def list_metric_names(folder: str) -> Iterator[tuple[str, str, int]]:
    for file in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=ast.Name("Counter" | "Gauge" | "Histogram"), args=[ast.Constant(str(name)), *_]):
                    yield name, str(file.relative_to(ROOT)), node.lineno


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_name_has_a_word_that_only_this_project_used(folder: str) -> None:
    found = [
        f"{file}:{line}: {name}: write {WORDS[word]} instead of {word}"
        for name, file, line in list_names(folder)
        for word in find_old_words(name)
        if f"{file}: {name}" not in ALLOWED
    ]
    assert found == []


def test_the_words_are_found_in_every_form_of_a_name() -> None:
    assert (
        find_old_words("held_back_count") == find_old_words("_HELD_BACK") == find_old_words("HeldBack") == ["held_back"]
    )
    assert find_old_words("surfaces") == find_old_words("household_back") == []
    metrics = [name for name, *_ in list_metric_names("caravan")]
    assert "caravan_outbox_pending" in metrics
