"""Settings of the gateway."""

from difflib import get_close_matches
from ipaddress import ip_network
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, FilePath, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from caravan.environment import FormerName
from caravan.http.client_ip import Networks
from services.gateway.known_services import list_known_services


def parse_networks(text: str) -> Networks:
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="GATEWAY_", extra="ignore", frozen=True)

    services: str = Field(
        "",
        description=(
            "Where names resolve outside (CARAVAN_DISCOVERY): the services to route to, comma-separated. Default: all "
            "that there are."
        ),
    )
    trusted_proxies: str = Field(
        "",
        description=(
            "Addresses or networks of proxies before the gateway, comma-separated: only from them `X-Forwarded-For` "
            "is believed. Default: none."
        ),
    )
    timeout_seconds: Annotated[float, FormerName("seconds")] = Field(
        30.0, gt=0, le=300, description="How long a service may take until its answer to a write begins; then 504."
    )
    read_timeout_seconds: Annotated[float, FormerName("read_seconds")] = Field(
        2.0,
        gt=0,
        le=300,
        description=(
            "The same for a read; then 503. Reads that take longer by nature, such as reports, have `timeout_seconds`."
        ),
    )
    max_connections_per_service: Annotated[int, FormerName("connections")] = Field(
        500,
        ge=1,
        le=10_000,
        description="Most connections to one service of another process: a slow one can't take those of others.",
    )
    max_requests_per_service: int = Field(
        64,
        ge=1,
        le=10_000,
        description=(
            "Most requests of clients that one service works on at a time for this gateway, until their answers begin; "
            "further ones wait. It is given fewer while answers take longer than `target_seconds`. Live streams don't "
            "count."
        ),
    )
    max_waiting_per_service: int = Field(
        512, ge=0, le=10_000, description="Most requests that wait for one service; the next one is answered 429."
    )
    waiting_seconds: float = Field(
        30.0, gt=0, le=30, description="How long a request waits for a service until it is answered 429."
    )
    target_seconds: float = Field(
        10.0,
        gt=0,
        le=300,
        description="While answers of a service take longer, it is given fewer requests at a time, at least 4.",
    )
    burst_seconds: float = Field(
        10.0,
        gt=0,
        le=300,
        description="When requests have waited so long for a service without a pause, it is an overload, no burst.",
    )
    overload_seconds: float = Field(
        1.0,
        gt=0,
        le=30,
        description="In an overload, a request that has waited longer is answered 429 instead of being worked on.",
    )
    max_streams: Annotated[int, FormerName("streams")] = Field(
        1000, ge=1, le=60_000, description="Most live streams that are open at a time; the next one is answered 503."
    )
    max_streams_per_caller: Annotated[int, FormerName("streams_per_caller")] = Field(
        20, ge=1, description="Most of them of one user; the next one is answered 429."
    )
    max_streams_per_address: Annotated[int, FormerName("streams_per_address")] = Field(
        100, ge=1, description="Most of them from one address; the next one is answered 429."
    )
    session_seconds: float = Field(
        10.0,
        ge=0,
        le=300,
        description=(
            "How long the state of a session is remembered: after logout or disabling, tokens work at most this much "
            "longer."
        ),
    )
    auth_per_minute: int = Field(30, ge=1, description="Limit per client address: tokens, passwords.")
    registration_per_minute: int = Field(60, ge=1, description="Limit per client address: new accounts.")
    orders_per_minute: int = Field(6000, ge=1, description="Limit per user: placing orders.")
    writes_per_minute: int = Field(
        1200, ge=1, description="Limit per user, or per client address without a token: all other writes."
    )
    reads_per_minute: int = Field(
        6000, ge=1, description="Limit per user, or per client address without a token: reads."
    )

    graphql_documents: Literal["any", "trusted"] = Field(
        "any",
        description=(
            "Which GraphQL documents are taken: `any`, or `trusted`, those of `GATEWAY_GRAPHQL_REGISTRY` alone."
        ),
    )
    graphql_registry: FilePath | None = Field(
        None,
        description=(
            "A JSON file of trusted GraphQL documents: an object of their texts by their SHA-256 in hex. They can be "
            "asked for by their hash alone. Default: none."
        ),
    )
    graphql_introspection: bool = Field(
        True,
        description=(
            "Whether clients may ask GraphQL for its schema: false in production, where it is published in the "
            "documentation alone."
        ),
    )
    graphql_max_cost: int = Field(
        10_000,
        ge=1,
        description="The most that one GraphQL operation may cost: an object of its answer 1, a call of a service 10.",
    )
    graphql_seconds: float = Field(
        10.0,
        gt=0,
        le=300,
        description="How long the calls of one GraphQL operation may take: at most `GATEWAY_TIMEOUT_SECONDS`.",
    )

    admins_per_minute: int = Field(
        60_000, ge=1, description="Limit per admin: everything, acting for customers (token exchange) too."
    )

    grafana_url: str = Field(
        "",
        description=(
            "Where people reach a Grafana with the dashboards of the shop, such as `https://grafana.example.com`: the "
            "console and `caravan status` then link to them. Default: no links."
        ),
    )
    alerts_url: str = Field(
        "",
        description="The same for the page of alerts, such as `https://alerts.example.com`. Default: no links.",
    )
    trace_url: str = Field(
        "",
        description=(
            "The same for one trace, with `{trace_id}` where its id belongs: "
            "`https://jaeger.example.com/trace/{trace_id}`. Default: no links."
        ),
    )

    @field_validator("grafana_url", "alerts_url", "trace_url")
    @classmethod
    def _check_links(cls, url: str, info: ValidationInfo) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError(f"{url!r} is no address: it must begin with http:// or https:// and name a host")
        if parts.username or parts.password:
            raise ValueError("people see this address, so it must hold no user and no password")
        if url and (info.field_name == "trace_url") != ("{trace_id}" in url):
            raise ValueError("`{trace_id}` belongs into GATEWAY_TRACE_URL, and into no other address")
        return url

    @model_validator(mode="after")
    def _check_graph(self) -> Self:
        if self.graphql_documents == "trusted" and self.graphql_registry is None:
            raise ValueError(
                "GATEWAY_GRAPHQL_DOCUMENTS: `trusted` needs GATEWAY_GRAPHQL_REGISTRY, the file of these documents"
            )
        if self.graphql_seconds > self.timeout_seconds:
            raise ValueError(
                f"GATEWAY_GRAPHQL_SECONDS: {self.graphql_seconds:g} is more than GATEWAY_TIMEOUT_SECONDS "
                f"({self.timeout_seconds:g}), after which nobody waits for the answer; set it to less"
            )
        return self

    @property
    def trusted_networks(self) -> Networks:
        """Of the trusted proxies."""
        return parse_networks(self.trusted_proxies)

    @field_validator("trusted_proxies")
    @classmethod
    def _check_networks(cls, text: str) -> str:
        parse_networks(text)
        return text

    @field_validator("services")
    @classmethod
    def _check_services(cls, text: str) -> str:
        """A shop may have services that this release doesn't know; one that is nearly called like a known one is
        misspelt.
        """
        for name in (part.strip() for part in text.split(",") if text):
            close_names = get_close_matches(name, list_known_services(), n=1, cutoff=0.8)
            if not name or (close_names and close_names[0] != name):
                raise ValueError(
                    f"{name or 'nothing'} is no service; there are {', '.join(sorted(list_known_services()))}"
                )
        return text
