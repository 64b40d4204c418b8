"""The tables of analytics: `facts` takes in, `reports` and `records` answer."""
