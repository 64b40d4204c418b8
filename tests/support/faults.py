"""Switches fault flags of this process on for a block of a test."""

from collections.abc import Iterator
from contextlib import contextmanager

from caravan import fault_flags


@contextmanager
def switch_faults(*flags: str) -> Iterator[None]:
    fault_flags.switch(flags)
    assert len(fault_flags.active) == len(flags), "there is no such fault"
    try:
        yield
    finally:
        fault_flags.switch(())
