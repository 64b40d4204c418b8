"""The HTTP entry point of orders."""
