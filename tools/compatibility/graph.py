"""What breaks a client of the graph, between two schemas in SDL: by graphql-core's own rules."""

from graphql import GraphQLEnumType, GraphQLInterfaceType, GraphQLObjectType, GraphQLSchema, build_schema
from graphql.type import get_named_type
from graphql.utilities import (
    BreakingChange,
    DangerousChange,
    DangerousChangeType,
    find_breaking_changes,
    find_dangerous_changes,
)

from tools.compatibility.breaks import Break

READ_CHANGES = {
    DangerousChangeType.VALUE_ADDED_TO_ENUM: "value-added",
    DangerousChangeType.TYPE_ADDED_TO_UNION: "type-added",
}
"""What the library calls dangerous and generated clients fail on, when it is in an answer. Of its other dangerous
changes one breaks, too: a default that is another."""


def find_breaks(before: str, after: str) -> list[Break]:
    old, new = build_schema(before), build_schema(after)
    read_enums = _list_read_enums(new)
    found = [
        _make_break(change.type.name.lower().replace("_", "-"), change) for change in find_breaking_changes(old, new)
    ]
    for change in find_dangerous_changes(old, new):
        if change.type in READ_CHANGES and (
            change.type is not DangerousChangeType.VALUE_ADDED_TO_ENUM
            or any(f" {name}." in change.description for name in read_enums)
        ):
            found.append(_make_break(READ_CHANGES[change.type], change))
        elif change.type is DangerousChangeType.ARG_DEFAULT_VALUE_CHANGE:
            found.append(_make_break("default-changed", change))
    return found


def _list_read_enums(schema: GraphQLSchema) -> set[str]:
    """The enums that answers hold; an enum that is only sent may grow."""
    return {
        named.name
        for kind in schema.type_map.values()
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType)
        for each in kind.fields.values()
        if isinstance(named := get_named_type(each.type), GraphQLEnumType)
    }


def _make_break(rule: str, change: BreakingChange | DangerousChange) -> Break:
    return Break(rule, change.description.rstrip("."), change.description)
