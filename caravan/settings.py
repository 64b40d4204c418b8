"""The kernel's settings, from `CARAVAN_*` variables; a service's own knobs live in its `settings.py` under its own
prefix.

An unknown variable with one of these prefixes is refused by name: a misspelt one must not pass silently. In containers
a secret may also be a file of that name in
`/run/secrets`; the environment wins.
"""

import difflib
import math
import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Literal, Self, TypeVar
from urllib.parse import urlsplit

import pydantic_settings
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from caravan import passwords, text
from caravan.email_address import parse_email_address

T = TypeVar("T", bound=BaseSettings)
SECRETS = Path("/run/secrets")


class SettingsError(Exception):
    """The environment holds a variable that can't be used; the text names it and says what is expected."""


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


_POSTGRES = ("postgresql", "postgres")
_REDIS = ("redis", "rediss", "unix")
_HTTP = ("http", "https")


class Settings(BaseSettings):
    """Where things are, shared by every service of a process."""

    model_config = SettingsConfigDict(env_prefix="CARAVAN_", extra="ignore", frozen=True)

    data: Path = Field(
        Path(".caravan"), description="Folder for everything that a laptop keeps: database, mail, secrets, logs."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    probe_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description=(
            "Port for `/livez`, `/readyz`, `/metrics` and `/revision` alone; the other port then doesn't answer them. "
            "Default: one port for all."
        ),
    )
    connections: int = Field(
        8192,
        ge=16,
        le=60_000,
        description=(
            "Most connections that one process takes; the next one is answered 503. Fewer where the system allows "
            "fewer files."
        ),
    )
    connections_per_address: int = Field(
        2048,
        ge=1,
        le=60_000,
        description=(
            "Most of them from one address, at the gateway; the next one is answered 429. Proxies of "
            "GATEWAY_TRUSTED_PROXIES may have all."
        ),
    )
    public_url: str = Field(
        "",
        description="Address under which clients reach the gateway; by default the one it listens on."
        " Issuer of the tokens.",
    )
    database_url: SecretStr | None = Field(
        None,
        description=(
            "Postgres server, as a role that may create roles and databases: "
            "`postgresql://user:password@host:5432/postgres`. Default: the embedded one."
        ),
    )
    database_passwords: Path | None = Field(
        None,
        description=(
            "Folder with a file per database that holds the password of its role, so that a service may be given its "
            "own alone. Default: they are derived from the secret."
        ),
    )
    migrate: bool = Field(
        True,
        description=(
            "Make and upgrade the databases at start. False: wait until `caravan migrate` has done it; then "
            "CARAVAN_DATABASE_URL needs no user."
        ),
    )
    redis_url: SecretStr | None = Field(
        None, description="Redis or Valkey: `redis://:password@host:6379/0`. Default: the embedded one."
    )
    jobs_redis_url: SecretStr | None = Field(
        None,
        description=(
            "Redis or Valkey for background jobs, with `maxmemory-policy noeviction` and an append-only file. "
            "Default: that of CARAVAN_REDIS_URL."
        ),
    )
    kafka_url: str = Field(
        "",
        description=(
            "Kafka brokers for the topics, `host:9092,host:9092`. Default: topics are kept in Postgres. Goes with "
            "CARAVAN_RABBITMQ_URL."
        ),
    )
    rabbitmq_url: SecretStr | None = Field(
        None,
        description="RabbitMQ for queues and exchanges: `amqp://user:password@host/`. Goes with CARAVAN_KAFKA_URL.",
    )
    rabbitmq_management_url: SecretStr | None = Field(
        None,
        description=(
            "RabbitMQ's management API, by which queues and their policies are made: "
            "`http://user:password@host:15672`. Default: port 15672 (amqps: 15671) of CARAVAN_RABBITMQ_URL, with its "
            "user."
        ),
    )
    kafka_replicas: int = Field(
        1,
        ge=1,
        le=32,
        description="Replicas of each topic that is made; with more than one, a write waits for all but one of them.",
    )
    declare: bool = Field(
        True,
        description=(
            "Who owns topics and queues: `true`, each process makes what it needs at its start; `false`, the operator "
            "or `caravan topology apply` does, and a process waits until they are there."
        ),
    )
    start_seconds: float = Field(
        120.0,
        gt=0,
        le=3600,
        description="How long a starting process waits for the backends,"
        " and for tables, topics and queues that others make.",
    )
    secret: SecretStr | None = Field(
        None,
        description=(
            "Master secret from which database passwords and client secrets are derived. Default: made once and kept "
            "in the data folder."
        ),
        min_length=32,
    )
    discovery: str = Field(
        "",
        description=(
            "Where other services are, as a URL with `{service}`: `http://{service}:8080`. Default: processes on one "
            "machine find each other through the database."
        ),
    )
    registry_url: str = Field(
        "",
        description=(
            "Where the operator serves the routing snapshot, asked by long poll: "
            "`http://caravan-operator:8081/v1/snapshots/<namespace>/gateway`. Services that it doesn't speak of are "
            "looked for as CARAVAN_DISCOVERY says."
        ),
    )
    registry_file: Path | None = Field(
        None,
        description=(
            "The routing snapshot as a file, such as a mounted ConfigMap: read at start and whenever it changes. With "
            "CARAVAN_REGISTRY_URL the newer of both counts."
        ),
    )
    admin_email: str = Field("admin@caravan.local", description="The admin that the first start makes.")
    admin_password: SecretStr | None = Field(
        None,
        description=(
            "The admin's password, 12 to 128 characters and not easily guessed, as for every user. Default: generated "
            "and printed once."
        ),
    )
    seed: Literal["demo", "none"] = Field(
        "demo",
        description=(
            "`caravan up`: `demo` fills an empty shop with a small catalogue before it is ready; `none` leaves it "
            "empty."
        ),
    )
    pool: int = Field(4, ge=2, le=100, description="Most database connections of one service in one process.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged."
    )
    log_format: Literal["json", "text"] = Field("json", description="Log lines as JSON, or as text for people.")
    otlp_endpoint: str = Field(
        "",
        description=(
            "OpenTelemetry collector (OTLP over HTTP), such as `http://collector:4318`. Default: no spans are exported."
        ),
    )
    drain_seconds: float = Field(
        15.0, gt=0, le=300, description="How long a stopping process finishes what it has begun."
    )
    crash_at: str = Field(
        "",
        pattern=r"^([a-z_.]+(:[1-9][0-9]*)?)?$",
        description="For fault tests: end the process at this named crash point, `name` or `name:hit`.",
    )

    @field_validator("database_url", "redis_url", "jobs_redis_url", "rabbitmq_url", "rabbitmq_management_url")
    @classmethod
    def _check_backend(cls, url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if url:
            value, name = url.get_secret_value(), info.field_name or ""
            if name == "database_url":
                check_url(value, _POSTGRES, host="host=" not in value)
            elif name == "rabbitmq_url":
                check_url(value, ("amqp", "amqps"))
            elif name == "rabbitmq_management_url":
                check_url(value, _HTTP)
            else:
                check_url(value, _REDIS, host=not value.startswith("unix:"))
                if not value.startswith("unix:") and not re.fullmatch(r"(/[0-9]*)?", urlsplit(value).path):
                    raise ValueError("must end with the number of a database, such as /0, or with the port")
        return url or None

    @field_validator("kafka_url")
    @classmethod
    def _check_brokers(cls, brokers: str) -> str:
        if brokers and not all(
            re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:/@,\[\]]+):[1-9][0-9]{0,4}", part.strip())
            for part in brokers.split(",")
        ):
            raise ValueError("must be brokers with their ports and commas between, such as kafka-0:9092,kafka-1:9092")
        return brokers

    @field_validator("public_url", "otlp_endpoint", "registry_url", "discovery")
    @classmethod
    def _check_address(cls, url: str, info: ValidationInfo) -> str:
        if url:
            check_url(url.replace("{service}", "service") if info.field_name == "discovery" else url, _HTTP)
            if info.field_name == "discovery" and (
                "{service}" not in url or re.search(r"[{}]", url.replace("{service}", ""))
            ):
                raise ValueError("must have {service} where a service's name belongs, such as http://{service}:8080")
        return url

    @field_validator("admin_email")
    @classmethod
    def _parse_admin_email(cls, email: str) -> str:
        return parse_email_address(email)

    @field_validator("admin_password")
    @classmethod
    def _check_admin_password(cls, password: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        plain_text = password.get_secret_value() if password else None
        if plain_text is not None:
            if not 12 <= len(plain_text) <= passwords.MAX_LENGTH or not re.fullmatch(text.WITHOUT_CONTROLS, plain_text):
                raise ValueError(f"must have 12 to {passwords.MAX_LENGTH} characters, without control characters")
            if fault := passwords.find_password_weakness(plain_text, info.data.get("admin_email", ""), "Admin"):
                raise ValueError(fault)
        return password

    @model_validator(mode="after")
    def _require_both_brokers(self) -> Self:
        if bool(self.kafka_url) != bool(self.rabbitmq_url):
            raise ValueError(
                "CARAVAN_KAFKA_URL and CARAVAN_RABBITMQ_URL go together: topics need the one, queues the other"
            )
        return self


def load_kernel(environment: Mapping[str, str] | None = None) -> Settings:
    """The kernel's settings from the environment. Raises SettingsError naming each variable that is unknown or
    wrong.
    """
    refuse_unknown([Settings], environment)
    return load_class(Settings)


def refuse_unknown(
    settings_classes: Iterable[type[BaseSettings]], environment: Mapping[str, str] | None = None
) -> None:
    """Raises SettingsError naming each variable, or file of a secret, that has the prefix of one of these classes and
    is none of its settings.
    """
    names = {
        name.upper(): name for name in [*_list_secret_names(), *(os.environ if environment is None else environment)]
    }
    unknown = []
    for settings_class in settings_classes:
        prefix = _get_prefix(settings_class)
        known_names = {f"{prefix}{name.upper()}" for name in settings_class.model_fields}
        unknown += [
            f"{names[name]}: no such setting; {_suggest_name(name, known_names)}"
            for name in sorted(names)
            if name.startswith(prefix) and name not in known_names
        ]
    if unknown:
        raise SettingsError("\n".join(unknown))


def load_class(settings_class: type[T]) -> T:
    """Read one settings class from the environment; the error names the variable, not the field."""
    prefix = _get_prefix(settings_class)
    try:
        loaded = settings_class(_secrets_dir=SECRETS if SECRETS.is_dir() else None)
    except ValidationError as error:
        lines = [
            f"{prefix}{'_'.join(str(part) for part in problem['loc']).upper()}: {_describe_rule(problem)}"
            if problem["loc"]
            else _describe_rule(problem)
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError("\n".join(lines)) from None
    except (
        pydantic_settings.SettingsError
    ) as error:  # a list that is no JSON; the text names the field, and its cause may quote a value
        name = next((name for name in settings_class.model_fields if f'"{name}"' in str(error)), "")
        raise SettingsError(f"{prefix}{name.upper()}: must be JSON, such as [1, 2.5]") from None
    non_finite = [name for name, value in loaded if isinstance(value, float) and not math.isfinite(value)]
    if non_finite:
        raise SettingsError("\n".join(f"{prefix}{name.upper()}: must be a finite number" for name in non_finite))
    return loaded


def _describe_rule(problem: ErrorDetails) -> str:
    """What is wrong: our own words as they are, and secrets counted in characters."""
    if problem["type"] == "too_short":  # the library's words are for lists
        return f"must have at least {problem['ctx']['min_length']} characters"
    return problem["msg"].removeprefix("Value error, ")


def _get_prefix(settings_class: type[BaseSettings]) -> str:
    return str(settings_class.model_config.get("env_prefix", ""))


def _list_secret_names() -> list[str]:
    return [path.name for path in SECRETS.iterdir()] if SECRETS.is_dir() else []


def _suggest_name(name: str, known_names: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, list(known_names), n=1)
    return f"did you mean {matches[0]}?" if matches else "see docs/reference/settings.md for the list"
