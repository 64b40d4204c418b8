"""The HTTP entry point of identity."""
