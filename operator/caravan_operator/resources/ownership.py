"""The fields that every resource with an external object shares: where it lives, who may change or delete it, and what the status says."""

from caravan_operator.resources.kinds import SERVERS, Column, condition_column
from caravan_operator.resources.names import LONGEST_ID
from caravan_operator.resources.schema import NAME, Schema, array, boolean, choice, fields, integer, rule, string

LINES = 20
"""Most lines of `status.plan` and `status.drift`; a longer list ends with how many more there are."""

CONNECTION_IS_FIXED = rule("self.connectionRef == oldSelf.connectionRef", "connectionRef is immutable", ".connectionRef")


def owned_spec(connection: str, deletable: str) -> dict[str, Schema]:
    """Spec fields of a resource that owns something on a broker. `deletable` says what DeleteIfUnused calls unused."""
    return {
        "connectionRef": fields(
            f"The {connection} to use. Immutable.",
            {
                "name": string(f"Name of the {connection}.", shortest=1, pattern=NAME),
                "namespace": string("Its namespace, when it is another one; it must allow this one.", longest=63, shortest=1, pattern=NAME),
            },
            required=("name",),
        ),
        "deletionPolicy": choice(
            "What happens to the object on the broker when this resource is deleted. Retain (the default) leaves it, Delete removes it, "
            f"DeleteIfUnused removes it only when {deletable}.",
            "Retain",
            "Delete",
            "DeleteIfUnused",
        ),
        "adoptionPolicy": choice(
            "What happens when the object exists already and this resource didn't make it. Refuse reports it, IfEqual (the default) takes it over when nothing "
            "would change, Adopt takes it over and changes what the spec names.",
            "Refuse",
            "IfEqual",
            "Adopt",
        ),
        "driftPolicy": choice(
            "What happens when somebody else has changed the object. Correct (the default) puts it back, Report says so in status.drift.",
            "Correct",
            "Report",
        ),
        "mode": choice(
            "Apply (the default) changes the broker. Plan changes nothing and writes what it would do to status.plan.", "Apply", "Plan"
        ),
    }


def conditions() -> Schema:
    """`status.conditions` as metav1.Condition defines them."""
    condition = fields(
        "A fact about the resource.",
        {
            "type": string("Name of the condition.", longest=316, shortest=1, pattern=r"^[A-Za-z]+$"),
            "status": choice("True, False or Unknown.", "True", "False", "Unknown"),
            "observedGeneration": integer("The generation that the condition was computed for.", 0, 2**53),
            "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When the status last changed."},
            "reason": string("Why, as a word for programs.", longest=1024, shortest=1, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"),
            "message": string("Why, as a sentence for people.", longest=32768),
        },
        required=("type", "status", "lastTransitionTime", "reason", "message"),
    )
    return array("Ready sums the others up.", condition, 16) | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}


def owned_status(**more: Schema) -> Schema:
    line = string("One change.", longest=512)
    return fields(
        "What the operator found and did. Written by the operator only.",
        {
            "observedGeneration": integer("The generation of the spec that the status speaks of.", 0, 2**53),
            "appliedGeneration": integer(
                "The generation that was last fully applied; later differences at this generation are drift.", 0, 2**53
            ),
            "conditions": conditions(),
            "lastSyncTime": {
                "type": "string",
                "format": "date-time",
                "description": "When the status last changed by a comparison with the broker.",
            },
            "origin": choice("Whether the operator created the object or took it over.", "Created", "Adopted"),
            "adoptedGeneration": integer("The generation at which the object was taken over.", 0, 2**53),
            "externalId": string("The broker's own identifier of the object, where it has one; its name otherwise.", longest=LONGEST_ID),
            "connectionHash": string("A hash over the connection's spec and secrets that the last pass used.", longest=64),
            "reconcileToken": string("The value of the annotation reconcile-now that was last answered.", longest=253),
            "plan": array("With mode Plan: what Apply would do.", line, LINES),
            "drift": array("Differences that were found and not repaired.", line, LINES),
            "conflict": string("The older resource that owns the same object, as namespace/name.", longest=320),
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


def connection_status(**more: Schema) -> Schema:
    return fields(
        "What the operator found. Written by the operator only.",
        {
            "observedGeneration": integer("The generation of the spec that the status speaks of.", 0, 2**53),
            "conditions": conditions(),
            "reachable": boolean("Whether the last call was answered."),
            "circuit": choice("Closed: calls go through. Open: they are held back until the next trial.", "Closed", "Open"),
            "connectionHash": string("A hash over spec and secrets; it changes when credentials are rotated.", longest=64),
            **more,
        },
    )


def secret(description: str, keys: str) -> Schema:
    """A reference to a Secret, of which these keys are read and no others."""
    return fields(
        f"{description} Keys: {keys}.",
        {
            "name": string(
                f"Name of a Secret in the connection's namespace. Its annotation {SERVERS} names the servers it is for.",
                shortest=1,
                pattern=NAME,
            )
        },
        required=("name",),
    )


def allowed_namespaces() -> Schema:
    label = string("Value of the label.", longest=63)
    return fields(
        "Which namespaces may refer to this connection. Default: its own.",
        {
            "from": choice("Same: its own. All: every one. Selector: those with the labels of `matchLabels`.", "Same", "All", "Selector"),
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
            rule(
                "(self.from == 'Selector') == has(self.matchLabels)",
                "matchLabels goes with from: Selector, and only with it",
                ".matchLabels",
            ),
        ),
    )
