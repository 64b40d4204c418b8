"""What every kind of discovery offers: an endpoint for the next request to a service, and its traffic policy."""

from collections.abc import Callable, Collection
from typing import Protocol

from caravan.discovery.endpoints import Endpoint
from caravan.discovery.routing_snapshot import Policy, Retry, Snapshot

HEARTBEAT_SECONDS = 3.0

DEFAULT_POLICY = Policy(retry=Retry(unsent=True))


class Discovery(Protocol):
    """A method with a body here is the default for kinds that know addresses only."""

    async def acquire_endpoint(self, service: str, tried_urls: Collection[str] = ()) -> Endpoint:
        """Where the next request to a service goes, if possible not to `tried_urls`. The endpoint is in use until
        its `release` is called.

        Raises ServiceUnavailable when nobody serves it."""

    async def list_services(self) -> set[str]:
        """The services that can be located now; empty when that can't be known."""

    async def list_endpoints(self, service: str) -> list[Endpoint]:
        """All that requests to a service may go to now, for whoever asks each of them."""
        return []

    def get_policy(self, service: str) -> Policy:
        return DEFAULT_POLICY

    @property
    def current_snapshot(self) -> Snapshot | None:
        """The routing snapshot in force, which alone decides what is public. None: each service's own OpenAPI document
        decides.
        """
        return None

    def add_change_listener(self, listener: Callable[[], None]) -> None:
        """Have `listener` called whenever another snapshot is in force."""
        return

    def get_status(self) -> dict[str, object] | None:
        """The snapshot in force and the state of its sources; None where there are none."""
        return None

    async def watch_changes(self) -> None:
        """Follow changes, until cancelled."""
        return

    async def register_services(self, services: list[str], url: str) -> None:
        """Publish where these services are; nothing to do where the platform knows."""
        return

    async def deregister_url(self, url: str) -> None:
        """Undo `register_services`."""
        return
