"""The business: one folder per service."""
