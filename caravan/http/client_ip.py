"""The client's address: that of the peer, or what a trusted proxy says of it."""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

Networks = tuple[IPv4Network | IPv6Network, ...]


def resolve_client_ip(peer: str, forwarded: str, trusted: Networks) -> str:
    """The rightmost address of the chain that is not a trusted proxy's. A peer that is not trusted can claim
    nothing.
    """
    address = peer
    for hop in reversed(forwarded.split(",")) if forwarded else ():
        if not is_within(address, trusted) or _parse_address(hop.strip()) is None:
            break
        address = hop.strip()
    return address


@lru_cache(maxsize=8192)
def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """An IPv4 address is itself also where a listener of both kinds writes it as an IPv6 one."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def is_within(address: str, networks: Networks) -> bool:
    parsed = _parse_address(address)
    return parsed is not None and any(parsed in network for network in networks)


def peer_network(scope: Mapping[str, Any]) -> str:
    """What the party behind a request controls, by its connection or, where the gateway passed it on, by what the
    gateway says.
    """
    return get_network(scope["client"][0]) if scope.get("client") else "unknown"


@lru_cache(maxsize=8192)
def get_network(address: str) -> str:
    """What one party controls: an IPv4 address, or the /64 of an IPv6 one."""
    parsed = _parse_address(address)
    if parsed is None:
        return "unknown"
    return str(ip_network((parsed, 64), strict=False)) if isinstance(parsed, IPv6Address) else str(parsed)
