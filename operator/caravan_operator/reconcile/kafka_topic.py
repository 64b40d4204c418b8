"""Rules of KafkaTopic: from the desired topic and its state to actions. A setting is listed (the operator manages
it), null (the operator never touches it), or absent (`configOwnership` decides).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from caravan_operator.reconcile.diff import Action, Diff, LastApplied, Problem, Removal
from caravan_operator.reconcile.durations import parse_milliseconds
from caravan_operator.resources.kafka import TYPED_CONFIG
from caravan_operator.resources.names import DOT_SEGMENTS, UnusableSpec, build_identity
from caravan_operator.resources.resource import Resource
from caravan_operator.status.reasons import Reason

_INTEGER_PATTERN = re.compile(r"[+-]?[0-9]{1,100}", re.ASCII)
_NUMBER_PATTERN = re.compile(
    r"[+-]?([0-9]{1,100}\.?[0-9]{0,100}|\.[0-9]{1,100})([eE][+-]?[0-9]{1,3})?[dDfF]?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Topic:
    """The desired topic. A setting of None is not managed."""

    name: str
    partitions: int
    replicas: int | None = None
    may_grow: bool = False
    config: Mapping[str, str | None] = field(default_factory=dict)
    owns_all: bool = False

    @property
    def identity(self) -> str:
        return build_identity("topic", self.name)

    @property
    def dependencies(self) -> tuple[str, ...]:
        return ()

    @property
    def managed_config(self) -> dict[str, str]:
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
    """None: not requested."""


@dataclass(frozen=True, slots=True)
class CreateTopic:
    topic: Topic

    @property
    def summary(self) -> str:
        return f"create topic {self.topic.name} with {self.topic.partitions} partitions"


@dataclass(frozen=True, slots=True)
class AddPartitions:
    name: str
    current: int
    total: int

    @property
    def summary(self) -> str:
        return f"grow topic {self.name} from {self.current} to {self.total} partitions"


@dataclass(frozen=True, slots=True)
class AlterConfig:
    """One setting: `value` of None resets it to the cluster's default."""

    name: str
    key: str
    before: str | None
    value: str | None

    @property
    def summary(self) -> str:
        if self.value is None:
            return f"reset {self.key} of topic {self.name} from {self.before} to the cluster's default"
        return f"set {self.key} of topic {self.name} from {self.before} to {self.value}"


@dataclass(frozen=True, slots=True)
class DeleteTopic:
    name: str

    @property
    def summary(self) -> str:
        return f"delete topic {self.name}"


def parse_topic(resource: Resource) -> Topic:
    """Raises UnusableSpec."""
    spec = resource.spec
    if spec.get("topicName") in DOT_SEGMENTS:
        raise UnusableSpec("spec.topicName", f"can't be {spec['topicName']!r}: Kafka refuses it")
    config = {TYPED_CONFIG[field]: _to_kafka_value(value) for field, value in (spec.get("config") or {}).items()}
    return Topic(
        name=spec.get("topicName") or resource.key.name,
        partitions=spec["partitions"],
        replicas=spec.get("replicas"),
        may_grow=spec.get("allowPartitionIncrease", False),
        config=config | (spec.get("extraConfig") or {}),
        owns_all=spec.get("configOwnership") == "All",
    )


def compute_diff(desired: Topic, state: TopicState | None, last_applied: LastApplied) -> Diff:
    if state is None:
        return Diff(actions=(CreateTopic(desired),))
    unknown_keys = [key for key in desired.config if key not in state.config]
    partition_actions, partition_problem = _plan_partitions(desired, state)
    problems = [Problem(Reason.UNKNOWN_SETTING, f"the broker knows no topic setting {key}") for key in unknown_keys]
    problems += [partition_problem] if partition_problem else []
    if desired.replicas is not None and desired.replicas != state.replicas:
        message = (
            f"the topic has {state.replicas} replicas, not {desired.replicas}: move its partitions with Kafka's "
            "reassignment tool"
        )
        problems.append(Problem(Reason.REPLICAS_DIFFER, message))
    actions = (
        *partition_actions,
        *_list_config_changes(desired, state),
        *_list_config_resets(desired, state, last_applied),
    )
    status_fields = {
        "topicName": desired.name,
        "topicId": state.id,
        "externalId": state.id,
        "partitions": state.partitions,
        "replicas": state.replicas,
        "configKeys": sorted(key for key in desired.managed_config if key in state.config) or None,
    }
    return Diff(actions, tuple(problems), status_fields=status_fields)


def plan_removal(desired: Topic, state: TopicState | None) -> Removal:
    if state is None:
        return Removal(())
    return Removal(
        (DeleteTopic(desired.name),), in_use_reason=None if state.empty else f"topic {desired.name} holds records"
    )


def _plan_partitions(desired: Topic, state: TopicState) -> tuple[tuple[Action, ...], Problem | None]:
    if state.partitions > desired.partitions:
        message = (
            f"the topic has {state.partitions} partitions, the spec {desired.partitions}, and Kafka can't remove one: "
            "raise spec.partitions"
        )
        return (), Problem(Reason.PARTITIONS_SHRINK, message)
    if state.partitions < desired.partitions and not desired.may_grow:
        message = (
            f"{state.partitions} partitions would grow to {desired.partitions}, which moves keys: set "
            "allowPartitionIncrease: true"
        )
        return (), Problem(Reason.PARTITION_INCREASE_NOT_ALLOWED, message)
    if state.partitions < desired.partitions:
        return (AddPartitions(desired.name, state.partitions, desired.partitions),), None
    return (), None


def _list_config_changes(desired: Topic, state: TopicState) -> list[Action]:
    return [
        AlterConfig(desired.name, key, state.config[key].value, value)
        for key, value in sorted(desired.managed_config.items())
        if key in state.config and not is_same_value(state.config[key], value)
    ]


def _list_config_resets(desired: Topic, state: TopicState, last_applied: LastApplied) -> list[Action]:
    """Dynamic settings that the spec doesn't name: those that we have set earlier, and with `configOwnership: All` the
    others too.
    """
    resets_all = desired.owns_all and not last_applied.just_adopted
    return [
        AlterConfig(desired.name, key, setting.value, None)
        for key, setting in sorted(state.config.items())
        if setting.dynamic and key not in desired.config and (resets_all or key in last_applied.config_keys)
    ]


def is_same_value(setting: Setting, desired: str) -> bool:
    """Whether a setting has the value, however it is spelt: Kafka prints numbers, booleans and lists in its own way. A
    value that the broker
    doesn't show can't be compared, and is set only once."""
    if setting.value is None:
        return setting.dynamic
    return setting.value == desired or _parse_value(setting.value) == _parse_value(desired)


def _parse_value(text: str) -> Any:
    """A whole number, another number, a boolean, or a list without its order: of no topic setting does the order
    matter.
    """
    text = text.strip()
    if _INTEGER_PATTERN.fullmatch(text):
        return ("number", int(text))
    if _NUMBER_PATTERN.fullmatch(text):
        number = float(text.rstrip("dDfF"))
        return ("number", int(number) if number.is_integer() else number)
    if text.lower() in ("true", "false"):
        return ("boolean", text.lower())
    return ("list", {part.strip() for part in text.split(",")} - {""})


def _to_kafka_value(value: object) -> str | None:
    """A value of `spec.config` as Kafka writes it."""
    if value is None:
        return None
    if value == "unlimited":
        return "-1"
    if isinstance(value, str) and value[0].isdigit():
        return str(parse_milliseconds(value))
    return str(value)
