"""How many connections a listener has, and how many of them one address may have.

`server.py` sets the bounds, `connections.py` counts.
"""

from collections import Counter
from dataclasses import dataclass, field

from caravan.http.client_ip import Networks, get_network, is_within

MAX_HEAD_BYTES = 32 * 1024
GATEWAY_HEAD_BYTES = 8 * 1024
"""What a gateway adds to a head on the way to a service."""


@dataclass(slots=True)
class ConnectionLimits:
    """Of all connections of a listener. `exempt_networks`: peers that may have any number of them, such as proxies
    before us; without `max_per_address` all may.
    """

    max_connections: int
    max_per_address: int | None = None
    exempt_networks: Networks = ()
    max_head_bytes: int = MAX_HEAD_BYTES
    count_by_address: Counter[str] = field(default_factory=Counter)

    def find_counted_address(self, peer: str) -> str | None:
        """The address or network that a connection of this peer counts for."""
        if self.max_per_address is None or (self.exempt_networks and is_within(peer, self.exempt_networks)):
            return None
        return get_network(peer)

    def add_connection(self, address: str) -> bool:
        """Whether there may be one more. It is counted in any case, until it is removed."""
        self.count_by_address[address] += 1
        return self.max_per_address is None or self.count_by_address[address] <= self.max_per_address

    def remove_connection(self, address: str | None) -> None:
        if address is not None:
            self.count_by_address[address] -= 1
            if not self.count_by_address[address]:
                del self.count_by_address[address]
