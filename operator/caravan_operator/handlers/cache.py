"""Every resource as last seen, and who is concerned by whom. Fed by the watches and by the answers to the operator's own patches, whichever is newer."""

from collections import defaultdict
from collections.abc import Iterator

from caravan_operator.reconcile import RULES, Wanted, read
from caravan_operator.resources import KINDS
from caravan_operator.resources.names import UnusableSpec
from caravan_operator.resources.resource import Key, Resource


class Cache:
    def __init__(self) -> None:
        self._resources: dict[Key, Resource] = {}
        self._of_connection: dict[Key, set[Key]] = defaultdict(set)
        self._same: dict[str, set[Key]] = defaultdict(set)
        self._needing: dict[str, set[Key]] = defaultdict(set)

    def get(self, key: Key) -> Resource | None:
        return self._resources.get(key)

    def put(self, resource: Resource, *, answer: bool = False) -> None:
        """Keep it if it is newer. `answer`: it comes from a patch; by then the watch may have removed it."""
        before = self._resources.get(resource.key)
        if answer and (before is None or before.uid != resource.uid):
            return
        if before is not None and before.uid == resource.uid and int(before.version) >= int(resource.version):
            return
        if before is not None:
            self._unlink(before)
        self._resources[resource.key] = resource
        self._link(resource)

    def remove(self, key: Key) -> Resource | None:
        resource = self._resources.pop(key, None)
        if resource is not None:
            self._unlink(resource)
        return resource

    def connection_of(self, resource: Resource) -> Key:
        """Key of the connection that serves a resource; a connection serves itself."""
        kind = KINDS[resource.key.kind].connection
        if kind is None:
            return resource.key
        namespace, name = resource.connection or (resource.key.namespace, "")
        return Key(kind, namespace, name)

    def connections(self, kind: str, namespace: str) -> list[Key]:
        """Those of a kind that anything in the namespace refers to."""
        return [key for key in self._of_connection if (key.kind, key.namespace) == (kind, namespace)]

    def served_by(self, connection: Key) -> list[Key]:
        return [*self._of_connection[connection]]

    def rivals(self, resource: Resource, identity: str) -> list[Resource]:
        """Others that name the same object on the same cluster."""
        scope = self._scope(resource)
        return [other for key in self._same[identity] if key != resource.key and self._scope(other := self._resources[key]) == scope]

    def rivals_of(self, resource: Resource) -> list[Resource]:
        """Others that name what this one names; none when it names nothing that can be."""
        wanted = _wanted(resource)
        return self.rivals(resource, wanted.identity) if wanted is not None else []

    def needing(self, connection: Key, identity: str) -> list[Key]:
        """Resources of this connection that wait for, or hang on, an object."""
        return [key for key in self._needing[identity] if self.connection_of(self._resources[key]) == connection]

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._resources.values())

    def __len__(self) -> int:
        return len(self._resources)

    def _scope(self, resource: Resource) -> str:
        """Two connections to the same Kafka cluster are one scope; RabbitMQ clusters are told apart by their address."""
        key = self.connection_of(resource)
        connection = self._resources.get(key)
        if connection is None:
            return key.path
        return str(connection.status.get("clusterId") or str(connection.spec.get("managementUrl", "")).rstrip("/").lower() or key.path)

    def _link(self, resource: Resource) -> None:
        self._of_connection[self.connection_of(resource)].add(resource.key)
        if (wanted := _wanted(resource)) is not None:
            self._same[wanted.identity].add(resource.key)
            for need in wanted.needs:
                self._needing[need].add(resource.key)

    def _unlink(self, resource: Resource) -> None:
        self._of_connection[self.connection_of(resource)].discard(resource.key)
        if (wanted := _wanted(resource)) is not None:
            _drop(self._same, wanted.identity, resource.key)
            for need in wanted.needs:
                _drop(self._needing, need, resource.key)


def _wanted(resource: Resource) -> Wanted | None:
    """None for a kind that owns nothing, and for a spec that can't be used: it is in nobody's way."""
    if resource.key.kind not in RULES:
        return None
    try:
        return read(resource)
    except UnusableSpec:
        return None


def _drop(index: dict[str, set[Key]], entry: str, key: Key) -> None:
    index[entry].discard(key)
    if not index[entry]:
        del index[entry]
