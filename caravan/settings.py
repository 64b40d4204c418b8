"""The kernel's settings, from `CARAVAN_*` variables.

A service's own are in its `settings.py`, under a prefix of its own. `caravan/environment.py` reads both.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from caravan import passwords, text
from caravan.email_address import parse_email_address
from caravan.environment import FormerName, check_url, load_class, refuse_unknown

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
    max_connections: Annotated[int, FormerName("connections")] = Field(
        8192,
        ge=16,
        le=60_000,
        description=(
            "Most connections that one process takes; the next one is answered 503. Fewer where the system allows "
            "fewer files."
        ),
    )
    max_connections_per_address: Annotated[int, FormerName("connections_per_address")] = Field(
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
    pool_size: Annotated[int, FormerName("pool")] = Field(
        4, ge=2, le=100, description="Most database connections of one service in one process."
    )
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
    failpoint: Annotated[str, FormerName("crash_at")] = Field(
        "",
        pattern=r"^([a-z_.]+(:[1-9][0-9]*)?)?$",
        description="For fault tests: end the process at this named failpoint, `name` or `name:hit`.",
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
