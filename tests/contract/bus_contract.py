"""The promises of the bus as tests, inherited once per transport: a transport adds only the fixture `bus`."""

from tests.contract.bus_dead_letters import DeadLetterContract
from tests.contract.bus_delivery import DeliveryContract
from tests.contract.bus_retries import RetryContract


class BusContract(DeliveryContract, RetryContract, DeadLetterContract):
    """All promises."""
