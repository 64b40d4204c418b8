"""The queries of orders: `streams` on the write side, `summaries` on the read side, and `projection` that leads from
the one to the other.
"""
