"""Derives the graph's types from the services' own schemas, so that the two can't differ.

An object is the JSON that its service answered, and a field reads its key: nothing is copied on the way.
"""

import inspect
import types
import typing
from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin
from uuid import UUID

import strawberry
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from services.gateway.graphql.policy import MAX_NESTED, PLAIN, JsonObject
from services.gateway.graphql.scalars import Date, DateTime, Json, Long, Uuid

T = TypeVar("T", bound=type)

_SCALARS: dict[object, object] = {
    str: str,
    bool: bool,
    float: float,
    int: Long,
    UUID: Uuid,
    datetime: DateTime,
    date: Date,
}
_SMALL = frozenset({"version", "attempt", "attempts", "calls", "expires_in", "revision", "status"})
"""Numbers that GraphQL's own Int, of 32 bits, holds for ever."""
_NESTED_DEFAULT = 100

_types: dict[tuple[type[BaseModel], bool], Any] = {}


def read_key(source: JsonObject, name: str) -> Any:
    """The default resolver: a value of the service's answer. One that could not be had is raised where it is asked."""
    value = source.get(name.removesuffix("_"))
    if isinstance(value, Exception):
        raise value
    return value


def derive_type(schema: type[BaseModel], **replaced: object) -> Callable[[T], T]:
    """A class decorator: the class's fields and those of a service's schema, as one type of the graph."""

    def decorate(cls: T) -> T:
        _types[schema, False] = cls
        own_annotations = dict(inspect.get_annotations(cls))
        for key, info in schema.model_fields.items():
            _add_field(cls, own_annotations, key, info, replaced.get(key))
        cls.__annotations__ = own_annotations
        description = cls.__doc__ or schema.__doc__
        return strawberry.type(cls, description=_flatten(description))

    return decorate


def get_type(schema: type[BaseModel]) -> Any:
    """The type of a schema, derived when nobody has declared one."""
    if (schema, False) not in _types:
        cls = type(_shorten(schema.__name__), (), {"__doc__": schema.__doc__, "__annotations__": {}})
        derive_type(schema)(cls)
    return _types[schema, False]


def get_input(schema: type[BaseModel]) -> Any:
    """The input type of a request's schema: what may be left out there may be left out here."""
    if (schema, True) not in _types:
        annotations: dict[str, Any] = {}
        cls = type(_shorten(schema.__name__).removesuffix("Request") + "Input", (), {"__annotations__": annotations})
        _types[schema, True] = cls
        for key, info in schema.model_fields.items():
            hint = _convert(info.annotation, key, is_input=True)
            if not info.is_required():
                hint = hint if _is_optional(hint) else typing.Optional[hint]  # noqa: UP045
                setattr(cls, key, strawberry.field(default=strawberry.UNSET, description=_flatten(info.description)))
            else:
                setattr(cls, key, strawberry.field(description=_flatten(info.description)))
            annotations[key] = hint
        strawberry.input(cls, description=_flatten(schema.__doc__))
    return _types[schema, True]


def dump_input(value: Any) -> Any:
    """An input as the JSON that the service takes: what was left out is absent, null is null."""
    if isinstance(value, list):
        return [dump_input(item) for item in value]
    if not hasattr(type(value), "__strawberry_definition__"):
        return value
    return {key: dump_input(item) for key, item in vars(value).items() if item is not strawberry.UNSET}


def _add_field(cls: type, annotations: dict[str, Any], key: str, info: FieldInfo, replacement: object | None) -> None:
    hint = replacement or _convert(info.annotation, key)
    attribute = f"{info.serialization_alias}_" if info.serialization_alias else key
    description = _flatten(info.description)
    item = _get_object_item(hint)
    if item is not None:
        setattr(cls, attribute, _make_sliced_field(key, hint, description))
        return
    annotations[attribute] = hint
    field = strawberry.field(name=info.serialization_alias, description=description, metadata=PLAIN.as_metadata())
    setattr(cls, attribute, field)


def _make_sliced_field(key: str, hint: Any, description: str | None) -> Any:
    """A list of objects inside an object: its length is bounded by what is asked for, and counts so."""

    def read_items(root: Any, first: int = _NESTED_DEFAULT) -> Any:
        items = read_key(root, key)
        return items[:first] if items is not None else None

    read_items.__annotations__["root"] = strawberry.Parent[Any]  # type: ignore[misc]
    text = f"{description or ''} The first {_NESTED_DEFAULT}, or up to {MAX_NESTED}.".strip()
    return strawberry.field(resolver=read_items, graphql_type=hint, description=text, metadata=PLAIN.as_metadata())


def _convert(annotation: Any, key: str, *, is_input: bool = False) -> Any:
    """An annotation of pydantic as one of Strawberry."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        members = [item for item in get_args(annotation) if item is not type(None)]
        hint = _convert(members[0], key, is_input=is_input) if len(members) == 1 else Json
        return typing.Optional[hint] if len(members) < len(get_args(annotation)) else hint  # noqa: UP045
    if origin in (list, tuple, frozenset, set, Annotated):
        item = _convert(get_args(annotation)[0], key, is_input=is_input)
        return item if origin is Annotated else list[item]  # type: ignore[valid-type]
    return str if origin is Literal else _convert_name(annotation, key, is_input)


def _convert_name(annotation: Any, key: str, is_input: bool) -> Any:
    if annotation is Any:
        return typing.Optional[Json]  # noqa: UP045
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return get_input(annotation) if is_input else get_type(annotation)
    return int if annotation is int and key in _SMALL else _SCALARS.get(annotation, Json)


def _is_optional(hint: Any) -> bool:
    return type(None) in get_args(hint)


def _get_object_item(hint: Any) -> Any:
    """The type of a list's objects."""
    if _is_optional(hint):
        hint = get_args(hint)[0]
    item = get_args(hint)[0] if get_origin(hint) is list else None
    return item if isinstance(item, type) and item not in _SCALARS else None


def _shorten(name: str) -> str:
    for suffix in ("Document", "View"):
        name = name.removesuffix(suffix)
    return name


def _flatten(text: str | None) -> str | None:
    return " ".join(text.split()) if text else None
