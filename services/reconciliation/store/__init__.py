"""What reconciliation reads and writes: `books` and `stock` read other services' databases, by statements of their own;
the rest is its own database.
"""
