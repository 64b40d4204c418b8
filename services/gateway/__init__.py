"""The one way in: routing, tokens, limits, aggregation."""
