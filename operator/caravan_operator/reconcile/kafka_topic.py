"""KafkaTopic: from what is wanted and what is, to changes. Settings have three states: listed (ours), null (hands off), absent (`configOwnership`)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from caravan_operator.reconcile.durations import milliseconds
from caravan_operator.reconcile.findings import Action, Findings, Problem, Remembered, Removal
from caravan_operator.resources.kafka import TYPED_CONFIG
from caravan_operator.resources.names import DOTS, UnusableSpec, identity
from caravan_operator.resources.resource import Resource
from caravan_operator.status.reasons import Reason

_WHOLE = re.compile(r"[+-]?[0-9]{1,100}", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]{1,100}\.?[0-9]{0,100}|\.[0-9]{1,100})([eE][+-]?[0-9]{1,3})?[dDfF]?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Topic:
    """As wanted. A setting of None is somebody else's."""

    name: str
    partitions: int
    replicas: int | None = None
    may_grow: bool = False
    config: Mapping[str, str | None] = field(default_factory=dict)
    owns_all: bool = False

    @property
    def identity(self) -> str:
        return identity("topic", self.name)

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    @property
    def listed(self) -> dict[str, str]:
        return {key: value for key, value in self.config.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Setting:
    value: str | None
    """None: the broker doesn't show it (a password)."""
    dynamic: bool
    """Set on the topic itself, rather than a default."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """As the broker has it. `config` holds every setting that this broker knows."""

    id: str
    partitions: int
    replicas: int
    config: Mapping[str, Setting]
    empty: bool | None = None
    """None: nobody asked."""


@dataclass(frozen=True, slots=True)
class CreateTopic:
    topic: Topic

    @property
    def line(self) -> str:
        return f"create topic {self.topic.name} with {self.topic.partitions} partitions"


@dataclass(frozen=True, slots=True)
class AddPartitions:
    name: str
    now: int
    total: int

    @property
    def line(self) -> str:
        return f"grow topic {self.name} from {self.now} to {self.total} partitions"


@dataclass(frozen=True, slots=True)
class AlterConfig:
    """One setting: `value` of None resets it to the cluster's default."""

    name: str
    key: str
    before: str | None
    value: str | None

    @property
    def line(self) -> str:
        if self.value is None:
            return f"reset {self.key} of topic {self.name} from {self.before} to the cluster's default"
        return f"set {self.key} of topic {self.name} from {self.before} to {self.value}"


@dataclass(frozen=True, slots=True)
class DeleteTopic:
    name: str

    @property
    def line(self) -> str:
        return f"delete topic {self.name}"


def topic(resource: Resource) -> Topic:
    """Raises UnusableSpec."""
    spec = resource.spec
    if spec.get("topicName") in DOTS:
        raise UnusableSpec("spec.topicName", f"can't be {spec['topicName']!r}: Kafka refuses it")
    typed = {TYPED_CONFIG[field]: _wire(value) for field, value in (spec.get("config") or {}).items()}
    return Topic(
        name=spec.get("topicName") or resource.key.name,
        partitions=spec["partitions"],
        replicas=spec.get("replicas"),
        may_grow=spec.get("allowPartitionIncrease", False),
        config=typed | (spec.get("extraConfig") or {}),
        owns_all=spec.get("configOwnership") == "All",
    )


def plan(wanted: Topic, state: TopicState | None, remembered: Remembered) -> Findings:
    if state is None:
        return Findings(actions=(CreateTopic(wanted),))
    unknown = [key for key in wanted.config if key not in state.config]
    grown, partition_problem = _partitions(wanted, state)
    problems = [Problem(Reason.UNKNOWN_SETTING, f"the broker knows no topic setting {key}") for key in unknown]
    problems += [partition_problem] if partition_problem else []
    if wanted.replicas is not None and wanted.replicas != state.replicas:
        message = f"the topic has {state.replicas} replicas, not {wanted.replicas}: move its partitions with Kafka's reassignment tool"
        problems.append(Problem(Reason.REPLICAS_DIFFER, message))
    actions = (*grown, *_sets(wanted, state), *_resets(wanted, state, remembered))
    facts = {
        "topicName": wanted.name,
        "topicId": state.id,
        "externalId": state.id,
        "partitions": state.partitions,
        "replicas": state.replicas,
        "configKeys": sorted(key for key in wanted.listed if key in state.config) or None,
    }
    return Findings(actions, tuple(problems), facts=facts)


def removal(wanted: Topic, state: TopicState | None) -> Removal:
    if state is None:
        return Removal(())
    return Removal((DeleteTopic(wanted.name),), in_use=None if state.empty else f"topic {wanted.name} holds records")


def _partitions(wanted: Topic, state: TopicState) -> tuple[tuple[Action, ...], Problem | None]:
    if state.partitions > wanted.partitions:
        message = (
            f"the topic has {state.partitions} partitions, the spec {wanted.partitions}, and Kafka can't remove one: raise spec.partitions"
        )
        return (), Problem(Reason.PARTITIONS_SHRINK, message)
    if state.partitions < wanted.partitions and not wanted.may_grow:
        message = f"{state.partitions} partitions would grow to {wanted.partitions}, which moves keys: set allowPartitionIncrease: true"
        return (), Problem(Reason.PARTITION_INCREASE_NOT_ALLOWED, message)
    if state.partitions < wanted.partitions:
        return (AddPartitions(wanted.name, state.partitions, wanted.partitions),), None
    return (), None


def _sets(wanted: Topic, state: TopicState) -> list[Action]:
    return [
        AlterConfig(wanted.name, key, state.config[key].value, value)
        for key, value in sorted(wanted.listed.items())
        if key in state.config and not same(state.config[key], value)
    ]


def _resets(wanted: Topic, state: TopicState, remembered: Remembered) -> list[Action]:
    """Dynamic settings that the spec doesn't name: those that we have set earlier, and with `configOwnership: All` the others too."""
    all_of_them = wanted.owns_all and not remembered.just_adopted
    return [
        AlterConfig(wanted.name, key, setting.value, None)
        for key, setting in sorted(state.config.items())
        if setting.dynamic and key not in wanted.config and (all_of_them or key in remembered.config_keys)
    ]


def same(setting: Setting, wanted: str) -> bool:
    """Whether a setting has the value, however it is spelt: Kafka prints numbers, booleans and lists in its own way. A value that the broker
    doesn't show can't be compared, and is set only once."""
    if setting.value is None:
        return setting.dynamic
    return setting.value == wanted or _value(setting.value) == _value(wanted)


def _value(text: str) -> Any:
    """A whole number, another number, a boolean, or a list without its order: of no topic setting does the order matter."""
    text = text.strip()
    if _WHOLE.fullmatch(text):
        return ("number", int(text))
    if _NUMBER.fullmatch(text):
        real = float(text.rstrip("dDfF"))
        return ("number", int(real) if real.is_integer() else real)
    if text.lower() in ("true", "false"):
        return ("boolean", text.lower())
    return ("list", {part.strip() for part in text.split(",")} - {""})


def _wire(value: object) -> str | None:
    """A value of `spec.config` as Kafka writes it."""
    if value is None:
        return None
    if value == "unlimited":
        return "-1"
    if isinstance(value, str) and value[0].isdigit():
        return str(milliseconds(value))
    return str(value)
