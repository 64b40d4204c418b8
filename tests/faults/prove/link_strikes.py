"""The strikes on links, which their proxies do."""

import asyncio
from collections.abc import Mapping
from functools import partial

from tests.faults.prove.bus_strikes import EVIDENCE_SECONDS, Strike
from tests.faults.prove.kinds import KINDS
from tests.faults.prove.plan import PlannedFault
from tests.faults.prove.proxy import Proxy
from tests.support.shop import wait_until

_UNITS = {"one-way": "bytes lost", "refused": "connections refused"}


def build_link_strikes(proxies: Mapping[str, Proxy]) -> dict[str, Strike]:
    """By kind. `proxies`: by link."""
    on_links = [kind.name for kind in KINDS if ">" in kind.targets[0]]
    return {name: partial(_cut if name.startswith("cut ") else _disturb_link, proxies) for name in on_links}


async def _cut(proxies: Mapping[str, Proxy], fault: PlannedFault) -> str:
    count = 0
    for _ in range(3):
        count += proxies[fault.target].cut()
        await asyncio.sleep(fault.seconds / 3)
    return f"{count} connections reset" if count else ""


async def _disturb_link(proxies: Mapping[str, Proxy], fault: PlannedFault) -> str:
    proxy = proxies[fault.target]
    mode = "refused" if fault.kind.startswith("partition") else fault.kind.split()[0]
    before = proxy.seen[mode]
    proxy.mode = mode
    if mode == "refused":
        proxy.cut()

    async def has_seen() -> bool:
        return proxy.seen[mode] > before

    try:
        await asyncio.sleep(fault.seconds)  # the length of the fault; not a wait for something
        await wait_until(has_seen, seconds=EVIDENCE_SECONDS, every=0.1)  # somebody used the link meanwhile
    finally:
        proxy.mode = "open"
        if mode == "one-way":
            proxy.cut()  # what has lost a part of its answers is of no more use
    return f"{proxy.seen[mode] - before} {_UNITS.get(mode, 'packets')}"
