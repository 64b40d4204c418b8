"""The scalars of the graph. Their values are what the services' JSON has: nothing is parsed and formatted again, and
the service that gets a value checks it.
"""

from typing import Any, NewType

import strawberry
from strawberry.types.scalar import ScalarDefinition


def _pass_on(value: Any) -> Any:
    return value


def _define_scalar(name: str, description: str) -> ScalarDefinition:
    return strawberry.scalar(name=name, description=description, serialize=_pass_on, parse_value=_pass_on)


DateTime = NewType("DateTime", str)
Date = NewType("Date", str)
Uuid = NewType("Uuid", str)
Json = NewType("Json", object)
Long = NewType("Long", int)

SCALARS: dict[object, ScalarDefinition] = {
    DateTime: _define_scalar("DateTime", "A time of RFC 3339, in UTC."),
    Date: _define_scalar("Date", "A day, as 2026-03-01."),
    Uuid: _define_scalar("UUID", "A UUID of RFC 9562."),
    Json: _define_scalar("JSON", "Any JSON value, such as the attributes of a product."),
    Long: _define_scalar("Long", "A whole number of up to 53 bits, such as an amount in minor units."),
}
