"""Wires the services that a process was asked to run to its backends; names no service."""

from caravan.runtime.backends import (
    BUS,
    BUS_VERSIONS,
    Backends,
    choose_bus,
    choose_discovery,
    consumers,
    declare,
    migrate,
    migrated,
    subscriptions,
)
from caravan.runtime.process import Process

__all__ = [
    "BUS",
    "BUS_VERSIONS",
    "Backends",
    "Process",
    "choose_bus",
    "choose_discovery",
    "consumers",
    "declare",
    "migrate",
    "migrated",
    "subscriptions",
]
