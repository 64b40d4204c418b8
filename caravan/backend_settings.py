"""The kernel's settings of databases and brokers: where they are, the logins that are no part of a URL, and TLS.

`caravan/settings.py` adds the others. The URLs come out of here complete: with the files of CARAVAN_CERTIFICATES.
"""

import re
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from caravan.environment import check_url
from caravan.tls import CertificateFiles, CertificateFilesError, complete_url, get_context

_POSTGRES = ("postgresql", "postgres")
_REDIS = ("redis", "rediss", "unix")
_HTTP = ("http", "https")
_CERTIFICATE_FOLDERS = {
    "database_url": "database",
    "redis_url": "redis",
    "jobs_redis_url": "jobs-redis",
    "rabbitmq_url": "rabbitmq",
    "rabbitmq_management_url": "rabbitmq",
}
"""The folder in CARAVAN_CERTIFICATES for each URL; that of Kafka is `kafka`."""


class BackendSettings(BaseSettings):
    """Databases and brokers, shared by every service of a process."""

    model_config = SettingsConfigDict(env_prefix="CARAVAN_", extra="ignore", frozen=True)

    certificates: Path | None = Field(
        None,
        description=(
            "Folder with the certificates for TLS, in a folder for each of `database`, `redis`, `jobs-redis`, `kafka` "
            "and `rabbitmq` that needs any: `ca.crt` (default: the CAs of the system), and `tls.crt` and `tls.key` "
            "for a client certificate. A renewed file is used from the next connection on."
        ),
    )
    database_url: SecretStr | None = Field(
        None,
        description=(
            "Postgres server, as a role that may create roles and databases: "
            "`postgresql://user:password@host:5432/postgres`, by TLS with `?sslmode=verify-full`. "
            "Default: the embedded one."
        ),
    )
    database_passwords: Path | None = Field(
        None,
        description=(
            "Folder with a file per database that holds the password of its role, so that a service may be given its "
            "own alone. Default: they are derived from the secret."
        ),
    )
    redis_url: SecretStr | None = Field(
        None,
        description=(
            "Valkey, or Redis from 7.0.8: `redis://:password@host:6379/0`, by TLS `rediss://`. "
            "Default: the embedded one."
        ),
    )
    jobs_redis_url: SecretStr | None = Field(
        None,
        description=(
            "Valkey, or Redis from 7.0.8, for background jobs, with `maxmemory-policy noeviction` and an append-only "
            "file. Default: that of CARAVAN_REDIS_URL."
        ),
    )
    kafka_url: str = Field(
        "",
        description=(
            "Kafka brokers for the topics, `host:9092,host:9092`. Default: topics are kept in Postgres. Goes with "
            "CARAVAN_RABBITMQ_URL."
        ),
    )
    kafka_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT",
        description=(
            "Kafka's `security.protocol`. `SSL` and `SASL_SSL` are TLS; `SASL_PLAINTEXT` sends everything readable, "
            "with PLAIN the password too."
        ),
    )
    kafka_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "", description="Kafka's `sasl.mechanism`, for a SASL protocol: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`."
    )
    kafka_username: str = Field("", description="User for a SASL protocol.")
    kafka_password: SecretStr | None = Field(None, description="That user's password.")
    rabbitmq_url: SecretStr | None = Field(
        None,
        description=(
            "RabbitMQ for queues and exchanges: `amqp://user:password@host/`, by TLS `amqps://`. "
            "Goes with CARAVAN_KAFKA_URL."
        ),
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

    @field_validator("certificates")
    @classmethod
    def _check_certificates(cls, folder: Path | None) -> Path | None:
        if folder is not None:
            known_names = {*_CERTIFICATE_FOLDERS.values(), "kafka"}
            if not folder.is_dir():
                raise ValueError("must be a folder that is there")
            # Kubernetes keeps what it mounts in folders that begin with a dot.
            for name in sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")):
                if name not in known_names:
                    raise ValueError(f"has {name}, and may have {', '.join(sorted(known_names))}")
                files = CertificateFiles.find(folder / name)
                if not files.list_given():
                    raise ValueError(f"has nothing in {name}: ca.crt, or tls.crt and tls.key, belong there")
                try:
                    get_context(files)
                except CertificateFilesError as error:
                    raise ValueError(str(error)) from None
        return folder

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
            folder = info.data.get("certificates")
            files = CertificateFiles.find(folder / _CERTIFICATE_FOLDERS[name]) if folder else CertificateFiles()
            return SecretStr(complete_url(value, files))
        return None

    @field_validator("kafka_url")
    @classmethod
    def _check_brokers(cls, brokers: str) -> str:
        if brokers and not all(
            re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:/@,\[\]]+):[1-9][0-9]{0,4}", part.strip())
            for part in brokers.split(",")
        ):
            raise ValueError("must be brokers with their ports and commas between, such as kafka-0:9092,kafka-1:9092")
        return brokers

    @model_validator(mode="after")
    def _require_both_brokers(self) -> Self:
        if bool(self.kafka_url) != bool(self.rabbitmq_url):
            raise ValueError(
                "CARAVAN_KAFKA_URL and CARAVAN_RABBITMQ_URL go together: topics need the one, queues the other"
            )
        return self

    @model_validator(mode="after")
    def _check_kafka_protocol(self) -> Self:
        login = {
            "CARAVAN_KAFKA_SASL_MECHANISM": self.kafka_sasl_mechanism,
            "CARAVAN_KAFKA_USERNAME": self.kafka_username,
            "CARAVAN_KAFKA_PASSWORD": self.kafka_password,
        }
        if self.kafka_protocol.startswith("SASL_"):
            if missing := [name for name, value in login.items() if not value]:
                raise ValueError(f"CARAVAN_KAFKA_PROTOCOL={self.kafka_protocol} needs {' and '.join(missing)}")
        elif given := [name for name, value in login.items() if value]:
            raise ValueError(f"{' and '.join(given)}: CARAVAN_KAFKA_PROTOCOL must be SASL_SSL or SASL_PLAINTEXT")
        if self.kafka_certificates.list_given() and not self.kafka_protocol.endswith("SSL"):
            raise ValueError(
                "CARAVAN_CERTIFICATES has certificates for kafka: CARAVAN_KAFKA_PROTOCOL must be SSL or SASL_SSL"
            )
        return self

    @property
    def kafka_certificates(self) -> CertificateFiles:
        return CertificateFiles.find(self.certificates / "kafka") if self.certificates else CertificateFiles()
