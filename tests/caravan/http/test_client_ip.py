"""Whose request it is by its address, and what a proxy may say of it."""

from ipaddress import ip_network

import pytest

from caravan.http.client_ip import Networks, get_network, is_within, peer_network, resolve_client_ip

PROXIES: Networks = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7, 10.1.2.3", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7, nonsense", "10.0.0.1"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
    ],
)
def test_only_a_trusted_proxy_is_believed(peer: str, forwarded: str, address: str) -> None:
    assert resolve_client_ip(peer, forwarded, PROXIES) == address


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("testclient", "unknown"),
    ],
)
def test_one_party_is_an_address_or_the_network_that_it_is_given(address: str, network: str) -> None:
    assert get_network(address) == network
    assert peer_network({"client": (address, 1)}) == network


def test_what_is_no_address_is_within_nothing() -> None:
    assert not is_within("nonsense", PROXIES)
    assert peer_network({"client": None}) == "unknown"
