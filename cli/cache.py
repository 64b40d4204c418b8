"""`caravan cache`: what the services keep in the shared cache, as they declare it."""

from dataclasses import asdict
from typing import Any, Literal

from caravan.cache import Cache, list_tag_kinds
from cli.terminal import print_json, print_table
from services.registry import load_services


def list_caches(output: Literal["table", "json"]) -> None:
    caches = [cache for service in load_services() for cache in service.caches]
    if output == "json":
        print_json([_build_document(cache) for cache in caches])
        return
    print_table(
        "",
        ("cache", "holds", "one for each", "for", "how old", "tags"),
        [
            (
                cache.name,
                cache.holds,
                cache.key,
                cache.scope,
                f"{cache.seconds:g} s",
                ", ".join(kind.pattern for kind in cache.tags),
            )
            for cache in caches
        ],
    )
    print_table(
        "",
        ("tag", "voided when", "events"),
        [
            (kind.pattern, kind.when, ", ".join(channel.name for channel in kind.invalidated_by))
            for kind in list_tag_kinds(caches)
        ],
    )


def _build_document(cache: Cache) -> dict[str, Any]:
    tags = [
        {"tag": kind.pattern, "when": kind.when, "events": [channel.name for channel in kind.invalidated_by]}
        for kind in cache.tags
    ]
    return {**asdict(cache), "tags": tags}
