"""The tables of analytics: `facts` writes them, `reports` and `records` read them."""
