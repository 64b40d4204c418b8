"""The services of this release and the channels that they declare, found by their folders: no list to forget one in."""

from importlib import import_module
from pkgutil import iter_modules

import services
from caravan.audit import AUDIT
from caravan.messages import Channel


def _with_room(room: str) -> list[str]:
    return sorted(
        package.name
        for root in services.__path__
        for package in iter_modules([root])
        if package.ispkg and any(module.name == room for module in iter_modules([f"{root}/{package.name}"]))
    )


def known_services() -> set[str]:
    return set(_with_room("main"))


def channels() -> list[Channel]:
    """All channels, by the faces of their owners, and the audit log that every service writes."""
    declared = [channel for name in _with_room("messages") for channel in import_module(f"services.{name}.messages").CHANNELS]
    return [*declared, AUDIT]
