"""The classes of gaps, what the books of an order show, and the life of a case; no I/O."""
