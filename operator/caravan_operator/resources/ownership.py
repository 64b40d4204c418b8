"""The fields that every resource with an external object shares: where it lives, who may change or delete it, and what
the status says.
"""

from caravan_operator.resources.kinds import SERVERS_ANNOTATION, Column, condition_column
from caravan_operator.resources.names import MAX_EXTERNAL_ID
from caravan_operator.resources.schema import (
    NAME_PATTERN,
    Schema,
    array_schema,
    boolean_schema,
    cel_rule,
    enum_schema,
    integer_schema,
    object_schema,
    string_schema,
)

MAX_LINES = 20
"""Most lines of `status.plan` and `status.drift`; a longer list ends with how many more there are."""

IMMUTABLE_CONNECTION_RULE = cel_rule(
    "self.connectionRef == oldSelf.connectionRef", "connectionRef is immutable", ".connectionRef"
)


def owned_spec_fields(connection: str, unused_when: str) -> dict[str, Schema]:
    """Spec fields of a resource that owns something on a broker. `unused_when` says what DeleteIfUnused calls
    unused.
    """
    return {
        "connectionRef": object_schema(
            f"The {connection} to use. Immutable.",
            {
                "name": string_schema(f"Name of the {connection}.", min_length=1, pattern=NAME_PATTERN),
                "namespace": string_schema(
                    "Its namespace, when it is another one; it must allow this one.",
                    max_length=63,
                    min_length=1,
                    pattern=NAME_PATTERN,
                ),
            },
            required=("name",),
        ),
        "deletionPolicy": enum_schema(
            "What happens to the object on the broker when this resource is deleted. Retain (the default) leaves it, "
            "Delete removes it, "
            f"DeleteIfUnused removes it only when {unused_when}.",
            "Retain",
            "Delete",
            "DeleteIfUnused",
        ),
        "adoptionPolicy": enum_schema(
            "What happens when the object exists already and this resource didn't make it. Refuse reports it, IfEqual "
            "(the default) takes it over when nothing "
            "would change, Adopt takes it over and changes what the spec names.",
            "Refuse",
            "IfEqual",
            "Adopt",
        ),
        "driftPolicy": enum_schema(
            "What happens when somebody else has changed the object. Correct (the default) puts it back, Report says "
            "so in status.drift.",
            "Correct",
            "Report",
        ),
        "mode": enum_schema(
            "Apply (the default) changes the broker. Plan changes nothing and writes what it would do to status.plan.",
            "Apply",
            "Plan",
        ),
    }


def conditions_schema() -> Schema:
    """`status.conditions` as metav1.Condition defines them."""
    condition = object_schema(
        "A fact about the resource.",
        {
            "type": string_schema("Name of the condition.", max_length=316, min_length=1, pattern=r"^[A-Za-z]+$"),
            "status": enum_schema("True, False or Unknown.", "True", "False", "Unknown"),
            "observedGeneration": integer_schema("The generation that the condition was computed for.", 0, 2**53),
            "lastTransitionTime": {
                "type": "string",
                "format": "date-time",
                "description": "When the status last changed.",
            },
            "reason": string_schema(
                "Why, as a word for programs.",
                max_length=1024,
                min_length=1,
                pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            ),
            "message": string_schema("Why, as a sentence for people.", max_length=32768),
        },
        required=("type", "status", "lastTransitionTime", "reason", "message"),
    )
    return array_schema("Ready sums the others up.", condition, 16) | {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    }


def owned_status_schema(**more: Schema) -> Schema:
    line = string_schema("One change.", max_length=512)
    return object_schema(
        "What the operator found and did. Written by the operator only.",
        {
            "observedGeneration": integer_schema("The generation of the spec that the status speaks of.", 0, 2**53),
            "appliedGeneration": integer_schema(
                "The generation that was last fully applied; later differences at this generation are drift.", 0, 2**53
            ),
            "conditions": conditions_schema(),
            "lastSyncTime": {
                "type": "string",
                "format": "date-time",
                "description": "When the status last changed by a comparison with the broker.",
            },
            "origin": enum_schema("Whether the operator created the object or took it over.", "Created", "Adopted"),
            "adoptedGeneration": integer_schema("The generation at which the object was taken over.", 0, 2**53),
            "externalId": string_schema(
                "The broker's own identifier of the object, where it has one; its name otherwise.",
                max_length=MAX_EXTERNAL_ID,
            ),
            "connectionHash": string_schema(
                "A hash over the connection's spec and secrets that the last pass used.", max_length=64
            ),
            "reconcileToken": string_schema(
                "The value of the annotation reconcile-now that was last answered.", max_length=253
            ),
            "plan": array_schema("With mode Plan: what Apply would do.", line, MAX_LINES),
            "drift": array_schema("Differences that were found and not repaired.", line, MAX_LINES),
            "conflict": string_schema(
                "The older resource that owns the same object, as namespace/name.", max_length=320
            ),
            **more,
        },
    )


def owned_columns(*specific: Column) -> tuple[Column, ...]:
    return (
        condition_column("Ready", "Ready"),
        condition_column("Reason", "Ready", "reason"),
        Column("Connection", ".spec.connectionRef.name"),
        *specific,
        condition_column("Synced", "Synced"),
        condition_column("Message", "Ready", "message", priority=1),
    )


def connection_columns(*specific: Column) -> tuple[Column, ...]:
    return (
        condition_column("Ready", "Ready"),
        condition_column("Reason", "Ready", "reason"),
        *specific,
        condition_column("Message", "Ready", "message", priority=1),
    )


def connection_status_schema(**more: Schema) -> Schema:
    return object_schema(
        "What the operator found. Written by the operator only.",
        {
            "observedGeneration": integer_schema("The generation of the spec that the status speaks of.", 0, 2**53),
            "conditions": conditions_schema(),
            "reachable": boolean_schema("Whether the last call was answered."),
            "circuit": enum_schema(
                "Closed: calls go through. Open: they are held back until the next trial.", "Closed", "Open"
            ),
            "connectionHash": string_schema(
                "A hash over spec and secrets; it changes when credentials are rotated.", max_length=64
            ),
            **more,
        },
    )


def secret_ref_schema(description: str, keys: str) -> Schema:
    """A reference to a Secret, of which these keys are read and no others."""
    return object_schema(
        f"{description} Keys: {keys}.",
        {
            "name": string_schema(
                f"Name of a Secret in the connection's namespace. Its annotation {SERVERS_ANNOTATION} names the "
                "servers it is for.",
                min_length=1,
                pattern=NAME_PATTERN,
            )
        },
        required=("name",),
    )


def allowed_namespaces_schema() -> Schema:
    label = string_schema("Value of the label.", max_length=63)
    return object_schema(
        "Which namespaces may refer to this connection. Default: its own.",
        {
            "from": enum_schema(
                "Same: its own. All: every one. Selector: those with the labels of `matchLabels`.",
                "Same",
                "All",
                "Selector",
            ),
            "matchLabels": {
                "type": "object",
                "description": "With Selector: labels that the namespace must carry.",
                "additionalProperties": label,
                "minProperties": 1,
                "maxProperties": 8,
            },
        },
        required=("from",),
        rules=(
            cel_rule(
                "(self.from == 'Selector') == has(self.matchLabels)",
                "matchLabels goes with from: Selector, and only with it",
                ".matchLabels",
            ),
        ),
    )
