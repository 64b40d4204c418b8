"""Wires the services that a process was asked to run to its backends; names no service."""

from caravan.runtime.backends import (
    BUS,
    BUS_VERSIONS,
    Backends,
    check_migrations,
    choose_bus,
    choose_discovery,
    declare_channels,
    list_consumers,
    list_subscriptions,
    run_migrations,
)
from caravan.runtime.process import Process

__all__ = [
    "BUS",
    "BUS_VERSIONS",
    "Backends",
    "Process",
    "check_migrations",
    "choose_bus",
    "choose_discovery",
    "declare_channels",
    "list_consumers",
    "list_subscriptions",
    "run_migrations",
]
