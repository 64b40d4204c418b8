"""The difference between what is declared and what the brokers have, and what came of removing it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from caravan.bus.topology import Element, Fact, KafkaTopic, Thing
from caravan.telemetry import log


class Kind(Enum):
    MISSING = "missing"
    DIFFERENT = "different"
    FOREIGN = "foreign"
    """On the broker, and declared by nobody."""


@dataclass(frozen=True, slots=True)
class Difference:
    kind: Kind
    thing: Thing
    facts: Mapping[str, tuple[Fact | None, Fact | None]] = field(default_factory=dict)
    """Of what is different: fact to (as it is, as it is declared)."""

    def __str__(self) -> str:
        told = ", ".join(f"{name} is {_shown(is_now)}, declared {_shown(declared)}" for name, (is_now, declared) in self.facts.items())
        return f"{self.kind.value}: {self.thing.kind} {self.thing.name}" + (f": {told}" if told else "")


@dataclass(frozen=True, slots=True)
class Applied:
    """`left`: differences that `apply` must not remove, each with what a person can do."""

    done: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    def tell(self, broker: str) -> None:
        """Into the log."""
        if self.done:
            log.info("topology made", broker=broker, done=list(self.done))
        for line in self.left:
            log.warning("topology differs", broker=broker, left=line)


def compare(declared: Mapping[Thing, Element], observed: Mapping[Thing, Element]) -> list[Difference]:
    """What differs, in the order of the declarations; what is foreign comes last."""
    found = []
    for thing, element in declared.items():
        if thing not in observed:
            found.append(Difference(Kind.MISSING, thing))
        elif facts := _facts(element, observed[thing]):
            found.append(Difference(Kind.DIFFERENT, thing, facts))
    return found + [Difference(Kind.FOREIGN, thing) for thing in sorted(observed.keys() - declared.keys())]


def _facts(declared: Element, observed: Element) -> dict[str, tuple[Fact | None, Fact | None]]:
    wanted, found = declared.facts, observed.facts
    # A topic has dozens of settings that nobody declared; an argument or a policy's key that nobody declared has been put there.
    names = list(wanted) if isinstance(declared, KafkaTopic) else list(dict.fromkeys([*wanted, *found]))
    return {name: (found.get(name), wanted.get(name)) for name in names if found.get(name) != wanted.get(name)}


def _shown(fact: Fact | None) -> str:
    return "absent" if fact is None else repr(fact) if fact == "" else str(fact)
