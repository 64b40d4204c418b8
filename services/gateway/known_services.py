"""The services of this release and their channels, found by their folders, so that no list has to be kept up to
date.
"""

from importlib import import_module
from pkgutil import iter_modules

import services
from caravan.audit import AUDIT
from caravan.messages import Channel


def _list_services_with(module_name: str) -> list[str]:
    return sorted(
        package.name
        for root in services.__path__
        for package in iter_modules([root])
        if package.ispkg and any(module.name == module_name for module in iter_modules([f"{root}/{package.name}"]))
    )


def list_known_services() -> set[str]:
    return set(_list_services_with("main"))


def list_channels() -> list[Channel]:
    """All channels, from the public modules of their owners, and the audit log that every service writes."""
    declared = [
        channel
        for name in _list_services_with("messages")
        for channel in import_module(f"services.{name}.messages").CHANNELS
    ]
    return [*declared, AUDIT]
