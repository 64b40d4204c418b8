"""Puts the graph together."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import strawberry
from graphql import GraphQLError, GraphQLSchema
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from services.gateway.graphql.mutations import build_mutation_type
from services.gateway.graphql.queries import build_query_type
from services.gateway.graphql.scalars import SCALARS
from services.gateway.graphql.shapes import read_key
from services.gateway.graphql.subscriptions import build_subscription_type


class AcceptedDocument(SchemaExtension):
    """The document was read and checked before (`documents.py`): it is neither parsed nor validated again."""

    def on_parse(self) -> Iterator[None]:
        self.execution_context.graphql_document = self.execution_context.context.document.node
        yield

    def on_validate(self) -> Iterator[None]:
        self.execution_context.pre_execution_errors = []
        yield


class Schema(strawberry.Schema):
    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Strawberry would log each: `errors.py` logs those that are the shop's own, most are a client's."""

    @property
    def core(self) -> GraphQLSchema:
        """The schema as graphql-core has it, for reading and planning."""
        return self._schema


@cache
def build_schema() -> Schema:
    return Schema(
        query=build_query_type(),
        mutation=build_mutation_type(),
        subscription=build_subscription_type(),
        extensions=[AcceptedDocument],
        config=StrawberryConfig(default_resolver=_read_attribute, scalar_map=SCALARS),
    )


def _read_attribute(source: Any, name: str) -> Any:
    return read_key(source, name)
