"""The queries of catalog, a module for each kind of row."""
