"""The kernel's settings, from `CARAVAN_*` variables.

Those of databases and brokers are in `backend_settings.py`. A service's own are in its `settings.py`, under a prefix of
its own. `caravan/environment.py` reads all of them.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from caravan import passwords, text
from caravan.backend_settings import BackendSettings
from caravan.email_address import parse_email_address
from caravan.environment import FormerName, check_url, load_class, refuse_unknown

_HTTP = ("http", "https")


class Settings(BackendSettings):
    """Where things are, shared by every service of a process."""

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
    migrate: bool = Field(
        True,
        description=(
            "Make and upgrade the databases at start. False: wait until `caravan migrate` has done it; then "
            "CARAVAN_DATABASE_URL needs no user."
        ),
    )
    declare: bool = Field(
        True,
        description=(
            "Who owns topics and queues: `true`, each process makes what it needs at its start; `false`, the operator "
            "or `caravan topology apply` does, and a process waits until they are there."
        ),
    )
    cache: bool = Field(
        True,
        description=(
            "Keep answers in Redis (docs/explanation/cache.md). False: each is computed, and invalidations are still "
            "sent, for processes that keep them."
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
    commit: str = Field(
        "", max_length=64, description="The commit that this was built from; told by the metric caravan_build_info."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged."
    )
    log_format: Literal["json", "text"] = Field("json", description="Log lines as JSON, or as text for people.")
    otlp_endpoint: str = Field(
        "",
        description=(
            "OpenTelemetry collector (OTLP over HTTP), such as `http://collector:4318`, for spans and log lines. "
            "Default: nothing is exported."
        ),
    )
    otlp_optional: bool = Field(
        False,
        description=(
            "Export nothing as long as the name of the OpenTelemetry collector has no address, "
            "instead of failing again and again: for Docker Compose, where a profile decides whether it is there."
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

    faults: bool = Field(
        False,
        description=(
            "Let `caravan faults` switch faults on in a running shop, to rehearse alerts. Never where customers buy."
        ),
    )

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


def load_kernel(environment: Mapping[str, str] | None = None) -> Settings:
    """The kernel's settings from the environment. Raises SettingsError naming each variable that is unknown or
    wrong.
    """
    refuse_unknown([Settings], environment)
    return load_class(Settings)
