"""The gateway: the only service that clients call. It routes, checks tokens, limits, and aggregates."""
