"""The statements of the service, one module per kind of row."""
