"""docs/reference/cache.md: what the services declare in their `caches.py`."""

from collections.abc import Sequence

from caravan.cache import list_tag_kinds
from caravan.service import Service


def render_caches(services: Sequence[Service]) -> str:
    caches = [cache for service in services for cache in service.caches]
    parts = [
        "# Cache\n\nWhat the services keep in the shared cache; [how it works](../explanation/cache.md).\n"
        "`caravan cache` prints the same.\n\n"
        "An entry is void as soon as one of its tags is invalidated.\n"
        "How old it may be counts only when an invalidation was lost with the process that owed it.\n\n"
        "| cache | holds | one entry for each | for | how old | when there is nothing | computed within | tags |\n"
        "|---|---|---|---|---|---|---|---|\n"
    ]
    parts += [
        f"| `{cache.name}` | {cache.holds} | {cache.key} | {cache.scope} | {cache.seconds:g} s "
        f"| {cache.negative_seconds:g} s | {cache.lease_seconds:g} s "
        f"| {', '.join(f'`{kind.pattern}`' for kind in cache.tags)} |\n"
        for cache in caches
    ]
    parts.append("\n## Tags\n\n| tag | invalidated when | events |\n|---|---|---|\n")
    parts += [
        f"| `{kind.pattern}` | {kind.when} | {', '.join(f'`{channel.name}`' for channel in kind.invalidated_by)} |\n"
        for kind in list_tag_kinds(caches)
    ]
    return "".join(parts)
