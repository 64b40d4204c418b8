"""The queries of identity, a file for each kind of row."""
