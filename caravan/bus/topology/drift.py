"""The difference between declared and observed topology, and the result of removing it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from caravan.bus.topology import BrokerObject, KafkaTopic, ObjectRef, PropertyValue
from caravan.telemetry import log


class DriftKind(Enum):
    MISSING = "missing"
    DIFFERENT = "different"
    FOREIGN = "foreign"
    """On the broker, and declared by nobody."""


@dataclass(frozen=True, slots=True)
class Difference:
    kind: DriftKind
    object_ref: ObjectRef
    properties: Mapping[str, tuple[PropertyValue | None, PropertyValue | None]] = field(default_factory=dict)
    """Of what is different: fact to (as it is, as it is declared)."""

    def __str__(self) -> str:
        details = ", ".join(
            f"{name} is {_format_value(is_now)}, declared {_format_value(declared)}"
            for name, (is_now, declared) in self.properties.items()
        )
        return f"{self.kind.value}: {self.object_ref.kind} {self.object_ref.name}" + (f": {details}" if details else "")


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """`unresolved`: differences that `apply` must not remove, each with what a person can do."""

    changes: tuple[str, ...] = ()
    unresolved: tuple[str, ...] = ()

    def log(self, broker: str) -> None:
        """Into the log."""
        if self.changes:
            log.info("topology applied", broker=broker, done=list(self.changes))
        for line in self.unresolved:
            log.warning("topology differs", broker=broker, unresolved=line)


def find_differences(
    declared: Mapping[ObjectRef, BrokerObject], observed: Mapping[ObjectRef, BrokerObject]
) -> list[Difference]:
    """What differs, in the order of the declarations; what is foreign comes last."""
    differences = []
    for ref, declared_object in declared.items():
        if ref not in observed:
            differences.append(Difference(DriftKind.MISSING, ref))
        elif properties := _compare_properties(declared_object, observed[ref]):
            differences.append(Difference(DriftKind.DIFFERENT, ref, properties))
    return differences + [Difference(DriftKind.FOREIGN, ref) for ref in sorted(observed.keys() - declared.keys())]


def _compare_properties(
    declared: BrokerObject, observed: BrokerObject
) -> dict[str, tuple[PropertyValue | None, PropertyValue | None]]:
    expected, actual = declared.properties, observed.properties
    # A topic has dozens of settings that nobody declared; an argument or a policy's key that nobody declared has been
    # put there.
    names = list(expected) if isinstance(declared, KafkaTopic) else list(dict.fromkeys([*expected, *actual]))
    return {name: (actual.get(name), expected.get(name)) for name in names if actual.get(name) != expected.get(name)}


def _format_value(value: PropertyValue | None) -> str:
    return "absent" if value is None else repr(value) if value == "" else str(value)
