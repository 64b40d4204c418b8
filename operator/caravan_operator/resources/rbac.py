"""The rights that the operator needs, and no more: it creates and deletes no custom resource and lists no Secret."""

from typing import Any

from caravan_operator.resources import KINDS

Rule = dict[str, list[str]]


def watched() -> list[Rule]:
    """Rights in every namespace whose resources the operator serves (a Role each, or one ClusterRole for all namespaces)."""
    groups = sorted({kind.group for kind in KINDS.values()})
    rules = []
    for group in groups:
        plurals = [kind.plural for kind in KINDS.values() if kind.group == group]
        rules.append(_rule(group, plurals, "get", "list", "watch", "patch"))
        rules.append(_rule(group, [f"{plural}/status" for plural in plurals], "get", "patch"))
    return [*rules, _rule("", ["events"], "create"), *_discovery()]


def _discovery() -> list[Rule]:
    """What ServiceRoutes are compiled from, and the ConfigMaps that hold the result: a right to create can't be limited to names."""
    return [
        _rule("", ["services"], "get", "list", "watch"),
        _rule("discovery.k8s.io", ["endpointslices"], "get", "list", "watch"),
        _rule("", ["configmaps"], "get", "create", "update"),
    ]


def secrets(names: list[str]) -> list[Rule]:
    """Reading the Secrets that connections refer to, by name where the names are known."""
    return [_rule("", ["secrets"], "get") | ({"resourceNames": names} if names else {})]


def own_namespace() -> list[Rule]:
    """The Lease of the leader, in the operator's own namespace."""
    return [
        _rule("coordination.k8s.io", ["leases"], "create"),
        _rule("coordination.k8s.io", ["leases"], "get", "update") | {"resourceNames": ["caravan-operator"]},
    ]


def cluster() -> list[Rule]:
    """Only for connections with `allowedNamespaces.from: Selector`: a namespace's labels."""
    return [_rule("", ["namespaces"], "get")]


def document() -> dict[str, Any]:
    return {"watched": watched(), "secrets": secrets([]), "ownNamespace": own_namespace(), "cluster": cluster()}


def _rule(group: str, resources: list[str], *verbs: str) -> Rule:
    return {"apiGroups": [group], "resources": resources, "verbs": list(verbs)}
