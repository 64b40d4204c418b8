"""The list of services, and the only module that knows them all: each service's declaration is loaded when it is asked
for.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `caravan --help` needs none of it
    from pydantic_settings import BaseSettings

    from caravan.service import Service


SERVICES = (
    "identity",
    "catalog",
    "inventory",
    "orders",
    "processing",
    "payments",
    "shipping",
    "notifications",
    "recommendations",
    "analytics",
    "reconciliation",
    "gateway",
)


def load_services(names: Iterable[str] = SERVICES) -> list[Service]:
    """The declarations of these services, by `services/<name>/main.py`."""
    services: list[Service] = [import_module(f"services.{name}.main").service for name in names]
    return services


def load_settings_classes(names: Iterable[str] = SERVICES) -> list[type[BaseSettings]]:
    """The settings classes of these services, without the rest of them."""
    classes: list[type[BaseSettings]] = [import_module(f"services.{name}.settings").Settings for name in names]
    return classes
