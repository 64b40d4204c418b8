"""The graph of the gateway. A package, so that its tests share one shop."""
