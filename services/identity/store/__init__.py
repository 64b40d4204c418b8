"""The queries of identity, a module for each table."""
