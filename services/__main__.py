"""The composition root: each service's name and where its declaration is, loaded only when asked for; and the command `caravan`."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING

from caravan.printable import escape_unprintable

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
    "gateway",
)


def load_services(names: Iterable[str] = SERVICES) -> list[Service]:
    """The declarations of these services, by `services/<name>/main.py`."""
    services: list[Service] = [import_module(f"services.{name}.main").service for name in names]
    return services


def _print_traceback(error_type: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What nobody foresaw may quote anybody."""
    sys.stderr.write(escape_unprintable("".join(traceback.format_exception(error_type, error, trace)), keep="\n"))


def load_settings_classes(names: Iterable[str] = SERVICES) -> list[type[BaseSettings]]:
    """The settings classes of these services, without the rest of them."""
    classes: list[type[BaseSettings]] = [import_module(f"services.{name}.settings").Settings for name in names]
    return classes


def main() -> None:
    """The command `caravan`."""
    sys.excepthook = _print_traceback
    import_module("services.cli").app()


if __name__ == "__main__":
    main()
