"""Settings for a command. They are read after the arguments were checked, so that a mistyped command says so first."""

from collections.abc import Callable, Collection
from functools import partial

from caravan import environment, settings
from caravan.environment import SettingsError
from caravan.settings import Settings
from cli.terminal import exit_with_error
from services.registry import load_settings_classes


def load_kernel_settings() -> Settings:
    try:
        return settings.load_kernel()
    except SettingsError as error:
        exit_with_error(str(error))


def load_checked_settings(names: Collection[str]) -> Settings:
    """The kernel's settings, for a command that starts these services: theirs are found right, and none of any service
    misspelt, before anything starts.
    """
    checks: list[Callable[[], object]] = [
        settings.load_kernel,
        lambda: environment.refuse_unknown(load_settings_classes()),
    ]
    checks += [partial(environment.load_class, kind) for kind in load_settings_classes(names)]
    problems = []
    for check in checks:
        try:
            check()
        except SettingsError as error:
            problems.append(str(error))
    if problems:
        exit_with_error("\n".join(problems))
    return settings.load_kernel()
