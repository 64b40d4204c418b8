"""The settings for a command, read once its arguments are known to be right."""

from collections.abc import Callable, Collection

from caravan import settings
from caravan.settings import Settings, SettingsError
from services.__main__ import load_settings
from services.cli.terminal import fail


def kernel_settings() -> Settings:
    try:
        return settings.load()
    except SettingsError as error:
        fail(str(error))


def settings_for(names: Collection[str]) -> Settings:
    """The kernel's settings, for a command that starts these services: theirs are found right, and none of any service misspelt, before anything starts."""
    checks: list[Callable[[], object]] = [settings.load, lambda: settings.refuse_unknown(load_settings())]
    checks += [lambda kind=kind: settings.read(kind) for kind in load_settings(names)]  # type: ignore[misc]
    problems = []
    for check in checks:
        try:
            check()
        except SettingsError as error:
            problems.append(str(error))
    if problems:
        fail("\n".join(problems))
    return settings.load()
