"""Who moves the money: a payment provider behind a protocol, and the simulation of one."""
