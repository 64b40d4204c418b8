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


def load(names: Iterable[str] = SERVICES) -> list[Service]:
    """The declarations of these services, by `services/<name>/main.py`."""
    loaded: list[Service] = [import_module(f"services.{name}.main").service for name in names]
    return loaded


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What nobody foresaw may quote anybody."""
    sys.stderr.write(escape_unprintable("".join(traceback.format_exception(kind, error, trace)), keep="\n"))


def load_settings(names: Iterable[str] = SERVICES) -> list[type[BaseSettings]]:
    """The settings classes of these services, without the rest of them."""
    loaded: list[type[BaseSettings]] = [import_module(f"services.{name}.settings").Settings for name in names]
    return loaded


def main() -> None:
    """The command `caravan`."""
    sys.excepthook = _print_traceback
    import_module("services.cli").app()


if __name__ == "__main__":
    main()
