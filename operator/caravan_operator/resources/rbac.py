"""The rights that the operator needs, and no more: it creates and deletes no custom resource and lists no Secret."""

from typing import Any

from caravan_operator.resources import KINDS

Rule = dict[str, list[str]]


def build_namespace_rules() -> list[Rule]:
    """Rights in every namespace whose resources the operator serves (a Role each, or one ClusterRole for all
    namespaces).
    """
    groups = sorted({kind.group for kind in KINDS.values()})
    rules = []
    for group in groups:
        plurals = [kind.plural for kind in KINDS.values() if kind.group == group]
        rules.append(_build_rule(group, plurals, "get", "list", "watch", "patch"))
        rules.append(_build_rule(group, [f"{plural}/status" for plural in plurals], "get", "patch"))
    return [*rules, _build_rule("", ["events"], "create"), *_build_discovery_rules()]


def _build_discovery_rules() -> list[Rule]:
    """What ServiceRoutes are compiled from, and the ConfigMaps that hold the result: a right to create can't be limited
    to names.
    """
    return [
        _build_rule("", ["services"], "get", "list", "watch"),
        _build_rule("discovery.k8s.io", ["endpointslices"], "get", "list", "watch"),
        _build_rule("", ["configmaps"], "get", "create", "update"),
    ]


def build_secret_rules(names: list[str]) -> list[Rule]:
    """Reading the Secrets that connections refer to, by name where the names are known."""
    return [_build_rule("", ["secrets"], "get") | ({"resourceNames": names} if names else {})]


def build_lease_rules() -> list[Rule]:
    """The Lease of the leader, in the operator's own namespace."""
    return [
        _build_rule("coordination.k8s.io", ["leases"], "create"),
        _build_rule("coordination.k8s.io", ["leases"], "get", "update") | {"resourceNames": ["caravan-operator"]},
    ]


def build_cluster_rules() -> list[Rule]:
    """Only for connections with `allowedNamespaces.from: Selector`: a namespace's labels."""
    return [_build_rule("", ["namespaces"], "get")]


def build_document() -> dict[str, Any]:
    return {
        "watched": build_namespace_rules(),
        "secrets": build_secret_rules([]),
        "ownNamespace": build_lease_rules(),
        "cluster": build_cluster_rules(),
    }


def _build_rule(group: str, resources: list[str], *verbs: str) -> Rule:
    return {"apiGroups": [group], "resources": resources, "verbs": list(verbs)}
