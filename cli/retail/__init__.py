"""Invoice lines of a shop, as CSV: read, classified, and turned into products, customers, stock, orders and returns. No
I/O.
"""
