"""Which connections count for an address, and how many it may have."""

from ipaddress import ip_network

from caravan.runtime.connection_limits import ConnectionLimits


def test_an_address_may_have_a_number_of_connections_and_a_proxy_any() -> None:
    limits = ConnectionLimits(100, max_per_address=2, exempt_networks=(ip_network("10.0.0.0/8"),))
    assert limits.find_counted_address("10.1.2.3") is None
    address = limits.find_counted_address("2001:db8::1")
    assert address == limits.find_counted_address("2001:db8::2"), "one party has a whole network"
    assert address is not None
    assert [limits.add_connection(address) for _ in range(3)] == [True, True, False]
    for _ in range(3):
        limits.remove_connection(address)
    assert not limits.count_by_address
    limits.remove_connection(None)


def test_without_a_bound_none_is_counted() -> None:
    assert ConnectionLimits(100).find_counted_address("192.0.2.1") is None
