"""What an operation asks for, before anything of it is run: its fields with their arguments, who may ask for them, and
what they cost at most.

The cost is the number of objects that the answer may hold, by the sizes of its lists, and CALL_COST for each call of a
service. It is known from the document and the variables alone.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from graphql import (
    DirectiveNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLIncludeDirective,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLSkipDirective,
    GraphQLType,
    InlineFragmentNode,
    NameNode,
    OperationDefinitionNode,
    SelectionSetNode,
    get_named_type,
    is_list_type,
    is_non_null_type,
)
from graphql.execution.values import VariableValues, get_argument_values, get_directive_values

from services.gateway.graphql.policy import (
    CALL_COST,
    INTROSPECTION,
    MAX_FIRST,
    MAX_NESTED,
    PLAIN,
    PRIVATE,
    SCOPES,
    Policy,
    Scope,
    get_policy,
)

INTROSPECTION_FIELDS = frozenset({"__schema", "__type"})
CONNECTION_LISTS = frozenset({"nodes", "edges"})
"""Lists of a page: as long as the page."""


@dataclass(frozen=True, slots=True)
class PlannedField:
    """`key`: the attribute of the parent that it reads. `size`: the most objects that it gives for one parent, 0 for
    what is no object.
    """

    response_key: str
    key: str
    arguments: dict[str, Any]
    policy: Policy
    size: int
    children: tuple["PlannedField", ...]


class PlanBuilder:
    """Reads one operation. Raises GraphQLError for arguments that are not valid."""

    def __init__(
        self, schema: GraphQLSchema, fragments: dict[str, FragmentDefinitionNode], variables: VariableValues
    ) -> None:
        self._schema = schema
        self._fragments = fragments
        self._variables = variables

    def plan_operation(self, operation: OperationDefinitionNode) -> tuple[PlannedField, ...]:
        root = self._schema.get_root_type(operation.operation)
        assert root is not None
        return self._plan_selection(root, [operation.selection_set], 1)

    def _plan_selection(
        self, parent: GraphQLNamedType, selection_sets: list[SelectionSetNode], page_size: int
    ) -> tuple[PlannedField, ...]:
        if not isinstance(parent, GraphQLObjectType):
            return ()
        nodes_by_key: dict[str, list[FieldNode]] = {}
        for selection_set in selection_sets:
            for node in self._list_fields(selection_set):
                nodes_by_key.setdefault(node.alias.value if node.alias else node.name.value, []).append(node)
        return tuple(
            self._plan_field(parent, response_key, nodes, page_size)
            for response_key, nodes in nodes_by_key.items()
            if nodes[0].name.value != "__typename"
        )

    def _plan_field(
        self, parent: GraphQLObjectType, response_key: str, nodes: list[FieldNode], page_size: int
    ) -> PlannedField:
        name = nodes[0].name.value
        if name in INTROSPECTION_FIELDS:
            return PlannedField(response_key, name, {}, INTROSPECTION, 0, ())
        field: GraphQLField = parent.fields[name]
        arguments = get_argument_values(field, nodes[0], self._variables)
        is_root = parent in (self._schema.query_type, self._schema.mutation_type, self._schema.subscription_type)
        named_type = get_named_type(field.type)
        is_page_list = parent.name.endswith("Connection") and name in CONNECTION_LISTS
        first = page_size if is_page_list else arguments.get("first") or 0
        most = MAX_FIRST if is_root else MAX_NESTED
        if "first" in arguments and not 1 <= (arguments["first"] or 0) <= most:
            raise GraphQLError(f"first of {response_key} is {arguments['first']}; take 1 to {most}", nodes)
        is_object = isinstance(named_type, GraphQLObjectType)
        definition = field.extensions.get("strawberry-definition")
        return PlannedField(
            response_key,
            definition.python_name if definition is not None else name,
            arguments,
            get_policy(field) or (PRIVATE if is_root else PLAIN),
            (first if _is_list(field.type) else 1) if is_object else 0,
            self._plan_selection(
                named_type,
                [node.selection_set for node in nodes if node.selection_set],
                first if named_type.name.endswith("Connection") else page_size,
            ),
        )

    def _list_fields(self, selection_set: SelectionSetNode) -> Iterator[FieldNode]:
        """The fields of a selection, those of its fragments among them. No type has subtypes, so a fragment always
        fits.
        """
        for node in selection_set.selections:
            if not self._is_included(node.directives):
                continue
            if isinstance(node, FieldNode):
                yield node
            elif isinstance(node, InlineFragmentNode):
                yield from self._list_fields(node.selection_set)
            elif isinstance(node, FragmentSpreadNode):
                yield from self._list_fields(self._fragments[node.name.value].selection_set)

    def _is_included(self, directives: tuple[DirectiveNode, ...] | None) -> bool:
        if not directives:
            return True
        holder = FieldNode(name=NameNode(value=""), directives=directives)
        skip = get_directive_values(GraphQLSkipDirective, holder, self._variables)
        include = get_directive_values(GraphQLIncludeDirective, holder, self._variables)
        return not (skip and skip["if"]) and not (include and not include["if"])


def estimate_cost(fields: tuple[PlannedField, ...], parents: int = 1) -> int:
    """The most that these fields of so many objects can cost."""
    return sum(_estimate_field(field, parents) for field in fields)


def _estimate_field(field: PlannedField, parents: int) -> int:
    calls = field.policy.calls
    if field.policy.join is not None:
        calls += math.ceil(parents / field.policy.join.batch_size)
    objects = parents * field.size
    return field.policy.price + calls * CALL_COST + objects + estimate_cost(field.children, objects)


def find_scope(fields: tuple[PlannedField, ...]) -> Scope:
    """The narrowest scope of all fields: who has it may ask for all of them."""
    scopes: list[Scope] = ["public"]
    for field in fields:
        if field.policy.scope is not None:
            scopes.append(field.policy.scope)
        scopes.append(find_scope(field.children))
    return max(scopes, key=SCOPES.index)


def _is_list(field_type: GraphQLType) -> bool:
    return is_list_type(field_type.of_type if is_non_null_type(field_type) else field_type)
