"""Order processing: the saga that takes an order from created to shipped, or undoes it."""
