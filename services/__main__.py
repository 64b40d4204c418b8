"""The composition root: each service's name and where its declaration is, loaded only when asked for; and the command `caravan`."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `caravan --help` needs none of it
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
    "gateway",
)


def load(names: Iterable[str] = SERVICES) -> list[Service]:
    """The declarations of these services, by `services/<name>/main.py`."""
    loaded: list[Service] = [import_module(f"services.{name}.main").service for name in names]
    return loaded


def main() -> None:
    """The command `caravan`."""
    import_module("services.cli").app()


if __name__ == "__main__":
    main()
