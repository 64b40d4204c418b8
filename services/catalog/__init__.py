"""Products and prices: the product service."""
