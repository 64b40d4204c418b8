"""The lag alert of each subscription, from its declaration: how old the oldest waiting message may be is
`Consumers(max_lag_seconds=...)`. `make docs` writes `prometheus/rules/lag.yaml` of it.
"""

from collections.abc import Iterable
from typing import Any

from caravan.bus import Subscription

PAGED_SECONDS = 60.0
"""Whoever may wait no longer than this has somebody who waits for it."""


def build_rules(subscriptions: Iterable[Subscription]) -> dict[str, Any]:
    """The content of `prometheus/rules/lag.yaml`."""
    ordered = sorted(subscriptions, key=lambda subscription: subscription.name)
    return {"groups": [{"name": "lag", "rules": [_build_alert(subscription) for subscription in ordered]}]}


def _build_alert(subscription: Subscription) -> dict[str, Any]:
    series = f'caravan_consumer_lag_seconds{{service="{subscription.service}", channel="{subscription.channel}"}}'
    return {
        "alert": "ConsumerLagging",
        "expr": f"max by (service, channel) ({series}) > {subscription.max_lag_seconds:g}",
        "for": "1m",
        "labels": {
            "severity": "page" if subscription.max_lag_seconds <= PAGED_SECONDS else "ticket",
            "owner": "messaging",
            "subscription": subscription.name,
        },
        "annotations": {
            "summary": "{{ $labels.service }} is {{ $value | humanizeDuration }} behind on {{ $labels.channel }}",
            "description": f"It may be {subscription.max_lag_seconds:g} s behind, as it declares itself.\n"
            "See whether it handles anything at all, what its handler waits for, and whether more replicas help.",
            "runbook_url": "observability/runbooks/ConsumerLagging.md",
        },
    }
