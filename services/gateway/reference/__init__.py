"""The reference of the API and of the messages, merged from all services."""
