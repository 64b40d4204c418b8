"""Reads settings classes from the environment, and in containers from files in `/run/secrets`, each with one secret.

The environment wins over a file. An unknown variable with the prefix of a settings class is refused by name: a misspelt
one must not pass silently. A setting that was renamed is also read under its former name.
"""

import difflib
import math
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pydantic_settings
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings

from caravan.telemetry import log

T = TypeVar("T", bound=BaseSettings)
SECRETS = Path("/run/secrets")


class SettingsError(Exception):
    """The environment holds a variable that can't be used; the text names it and says what is expected."""


@dataclass(frozen=True)
class FormerName:
    """Annotates a field, one value and not a list, that had this name before: its variable is accepted until 0.2."""

    name: str


@dataclass(frozen=True)
class RenamedSetting:
    """A setting that is given under its former name; `is_used` unless the new one is given, too."""

    field_name: str
    former_name: str
    new_name: str
    value: str = field(repr=False)
    is_used: bool


def check_url(url: str, schemes: Collection[str], *, host: bool = True) -> None:
    """ValueError when a client of these schemes couldn't even begin to connect; the text doesn't hold the URL, which
    may hold a password.
    """
    rule = (
        "must be a URL that begins with "
        f"{' or '.join(f'{scheme}://' for scheme in schemes)}{' and names a host' if host else ''}"
    )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"{rule}; its host or port can't be read") from None
    if parts.scheme not in schemes or (host and not parts.hostname) or port == 0 or any(sign.isspace() for sign in url):
        raise ValueError(rule)


def refuse_unknown(
    settings_classes: Iterable[type[BaseSettings]], environment: Mapping[str, str] | None = None
) -> None:
    """Raises SettingsError naming each variable, or file of a secret, that has the prefix of one of these classes and
    is none of its settings.
    """
    names = _list_given_names(os.environ if environment is None else environment)
    unknown = []
    for settings_class in settings_classes:
        prefix = _get_prefix(settings_class)
        current_names = {_build_variable(settings_class, name) for name in settings_class.model_fields}
        new_names = {name: name for name in current_names} | _map_former_names(settings_class)
        unknown += [
            f"{names[name]}: no such setting; {_suggest_name(name, new_names)}"
            for name in sorted(names)
            if name.startswith(prefix) and name not in new_names
        ]
    if unknown:
        raise SettingsError("\n".join(unknown))


def find_renamed(settings_class: type[BaseSettings]) -> list[RenamedSetting]:
    """The settings of this class that are given under their former names."""
    names = _list_given_names(os.environ)
    former_names = _map_former_names(settings_class)
    return [
        RenamedSetting(
            new_name.removeprefix(_get_prefix(settings_class)).lower(),
            names[former_name],
            new_name,
            _read_value(names[former_name]),
            is_used=new_name not in names,
        )
        for former_name, new_name in former_names.items()
        if former_name in names
    ]


def warn_about_former_names(settings_classes: Iterable[type[BaseSettings]]) -> None:
    """A log line for each setting that is given under its former name."""
    for settings_class in settings_classes:
        for renamed in find_renamed(settings_class):
            log.warning(
                "setting renamed" if renamed.is_used else "setting ignored, its new name is set",
                former_name=renamed.former_name,
                new_name=renamed.new_name,
                accepted_until="0.2",
            )


def load_class(settings_class: type[T]) -> T:
    """Read one settings class from the environment; the error names the variable, not the field."""
    renamed = {setting.field_name: setting for setting in find_renamed(settings_class) if setting.is_used}
    former_values: dict[str, Any] = {name: setting.value for name, setting in renamed.items()}
    try:
        loaded = settings_class(_secrets_dir=SECRETS if SECRETS.is_dir() else None, **former_values)
    except ValidationError as error:
        lines = [
            f"{_name_variable(settings_class, problem, renamed)}: {_describe_rule(problem)}"
            if problem["loc"]
            else _describe_rule(problem)
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError("\n".join(lines)) from None
    except (
        pydantic_settings.SettingsError
    ) as error:  # a list that is no JSON; the text names the field, and its cause may quote a value
        name = next((name for name in settings_class.model_fields if f'"{name}"' in str(error)), "")
        raise SettingsError(f"{_build_variable(settings_class, name)}: must be JSON, such as [1, 2.5]") from None
    non_finite = [name for name, value in loaded if isinstance(value, float) and not math.isfinite(value)]
    if non_finite:
        raise SettingsError(
            "\n".join(f"{_build_variable(settings_class, name)}: must be a finite number" for name in non_finite)
        )
    return loaded


def _name_variable(
    settings_class: type[BaseSettings], problem: ErrorDetails, renamed: Mapping[str, RenamedSetting]
) -> str:
    """The variable whose value is wrong, as it was given."""
    if problem["loc"][0] in renamed:
        return renamed[str(problem["loc"][0])].former_name
    return _build_variable(settings_class, "_".join(str(part) for part in problem["loc"]))


def _describe_rule(problem: ErrorDetails) -> str:
    """What is wrong: our own words as they are, and secrets counted in characters."""
    if problem["type"] == "too_short":  # the library's words are for lists
        return f"must have at least {problem['ctx']['min_length']} characters"
    return problem["msg"].removeprefix("Value error, ")


def _get_prefix(settings_class: type[BaseSettings]) -> str:
    return str(settings_class.model_config.get("env_prefix", ""))


def _build_variable(settings_class: type[BaseSettings], field_name: str) -> str:
    return f"{_get_prefix(settings_class)}{field_name.upper()}"


def _map_former_names(settings_class: type[BaseSettings]) -> dict[str, str]:
    """The variable of today by each former one."""
    return {
        _build_variable(settings_class, former.name): _build_variable(settings_class, name)
        for name, declared in settings_class.model_fields.items()
        for former in declared.metadata
        if isinstance(former, FormerName)
    }


def _list_given_names(environment: Iterable[str]) -> dict[str, str]:
    """Names of variables and of files with secrets as they are given, by their upper case."""
    files = [path.name for path in SECRETS.iterdir()] if SECRETS.is_dir() else []
    return {name.upper(): name for name in [*files, *environment]}


def _read_value(name: str) -> str:
    return os.environ[name] if name in os.environ else (SECRETS / name).read_text().strip()


def _suggest_name(name: str, new_names: Mapping[str, str]) -> str:
    matches = difflib.get_close_matches(name, list(new_names), n=1)
    return f"did you mean {new_names[matches[0]]}?" if matches else "see docs/reference/settings.md for the list"
