"""The HTTP entry point of catalog."""
