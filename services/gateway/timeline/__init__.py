"""The timeline of an order: `collect.py` asks every service for its part, `ordering.py` puts the entries in the order
of their causes, `difference.py` compares two moments, and `view.py` makes what the caller may see.
"""
