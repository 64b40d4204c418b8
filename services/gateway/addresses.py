"""Whose request it is when nobody signed in: the address of the peer, or what a proxy that we trust says of it."""

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Networks = tuple[IPv4Network | IPv6Network, ...]


def client_address(peer: str, forwarded: str, trusted: Networks) -> str:
    """The rightmost address of the chain that is not a trusted proxy's. A peer that is not trusted can claim nothing."""
    address = peer
    for claimed in reversed(forwarded.split(",")) if forwarded else ():
        if not _within(address, trusted) or not _parsed(claimed.strip()):
            break
        address = claimed.strip()
    return address


def _parsed(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _within(address: str, trusted: Networks) -> bool:
    return _parsed(address) and any(ip_address(address) in network for network in trusted)


@lru_cache(maxsize=8192)
def network_of(address: str) -> str:
    """What one party controls: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
    return address
