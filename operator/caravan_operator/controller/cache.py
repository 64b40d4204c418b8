"""The newest known version of every resource, with indexes by connection, by external object and by dependency. The
watches and the answers to the operator's own patches fill it; an older version never replaces a newer one.
"""

from collections import defaultdict
from collections.abc import Iterator

from caravan_operator.reconcile import RULES, DesiredObject, parse_desired
from caravan_operator.resources import KINDS
from caravan_operator.resources.names import UnusableSpec
from caravan_operator.resources.resource import Key, Resource


class ResourceCache:
    def __init__(self) -> None:
        self._resources: dict[Key, Resource] = {}
        self._by_connection: dict[Key, set[Key]] = defaultdict(set)
        self._by_identity: dict[str, set[Key]] = defaultdict(set)
        self._dependents_by_identity: dict[str, set[Key]] = defaultdict(set)

    def get(self, key: Key) -> Resource | None:
        return self._resources.get(key)

    def put(self, resource: Resource, *, from_patch: bool = False) -> None:
        """Keep it if it is newer. `from_patch`: it is the answer to a patch; by then the watch may have removed it."""
        previous = self._resources.get(resource.key)
        if from_patch and (previous is None or previous.uid != resource.uid):
            return
        if (
            previous is not None
            and previous.uid == resource.uid
            and int(previous.resource_version) >= int(resource.resource_version)
        ):
            return
        if previous is not None:
            self._unindex_resource(previous)
        self._resources[resource.key] = resource
        self._index_resource(resource)

    def remove(self, key: Key) -> Resource | None:
        resource = self._resources.pop(key, None)
        if resource is not None:
            self._unindex_resource(resource)
        return resource

    def get_connection_key(self, resource: Resource) -> Key:
        """Key of the connection that serves a resource; a connection serves itself."""
        kind = KINDS[resource.key.kind].connection_kind
        if kind is None:
            return resource.key
        namespace, name = resource.connection_ref or (resource.key.namespace, "")
        return Key(kind, namespace, name)

    def list_connections(self, kind: str, namespace: str) -> list[Key]:
        """Those of a kind that anything in the namespace refers to."""
        return [key for key in self._by_connection if (key.kind, key.namespace) == (kind, namespace)]

    def list_served(self, connection: Key) -> list[Key]:
        return [*self._by_connection[connection]]

    def list_same_object(self, resource: Resource, identity: str) -> list[Resource]:
        """Others that name the same object on the same cluster."""
        scope = self._get_scope(resource)
        return [
            other
            for key in self._by_identity[identity]
            if key != resource.key and self._get_scope(other := self._resources[key]) == scope
        ]

    def list_conflicting(self, resource: Resource) -> list[Resource]:
        """Other resources that name the same object; none when the spec of this one is unusable."""
        desired = _parse_or_none(resource)
        return self.list_same_object(resource, desired.identity) if desired is not None else []

    def list_dependents(self, connection: Key, identity: str) -> list[Key]:
        """Resources of this connection that wait for, or hang on, an object."""
        return [
            key
            for key in self._dependents_by_identity[identity]
            if self.get_connection_key(self._resources[key]) == connection
        ]

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._resources.values())

    def __len__(self) -> int:
        return len(self._resources)

    def _get_scope(self, resource: Resource) -> str:
        """Two connections to the same Kafka cluster are one scope; RabbitMQ clusters are distinguished by their
        address.
        """
        key = self.get_connection_key(resource)
        connection = self._resources.get(key)
        if connection is None:
            return key.namespaced_name
        return str(
            connection.status.get("clusterId")
            or str(connection.spec.get("managementUrl", "")).rstrip("/").lower()
            or key.namespaced_name
        )

    def _index_resource(self, resource: Resource) -> None:
        self._by_connection[self.get_connection_key(resource)].add(resource.key)
        if (desired := _parse_or_none(resource)) is not None:
            self._by_identity[desired.identity].add(resource.key)
            for dependency in desired.dependencies:
                self._dependents_by_identity[dependency].add(resource.key)

    def _unindex_resource(self, resource: Resource) -> None:
        self._by_connection[self.get_connection_key(resource)].discard(resource.key)
        if (desired := _parse_or_none(resource)) is not None:
            _discard_key(self._by_identity, desired.identity, resource.key)
            for dependency in desired.dependencies:
                _discard_key(self._dependents_by_identity, dependency, resource.key)


def _parse_or_none(resource: Resource) -> DesiredObject | None:
    """None for a kind without an external object, and for an unusable spec: neither conflicts with others."""
    if resource.key.kind not in RULES:
        return None
    try:
        return parse_desired(resource)
    except UnusableSpec:
        return None


def _discard_key(index: dict[str, set[Key]], identity: str, key: Key) -> None:
    index[identity].discard(key)
    if not index[identity]:
        del index[identity]
