"""The kernel's settings for a command, read once its arguments are known to be right."""

from caravan import settings
from caravan.settings import Settings, SettingsError
from services.cli.terminal import fail


def kernel_settings() -> Settings:
    try:
        return settings.load()
    except SettingsError as error:
        fail(str(error))
