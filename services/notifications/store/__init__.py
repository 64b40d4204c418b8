"""The statements of the service, one module per table."""
