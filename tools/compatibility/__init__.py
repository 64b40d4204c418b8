"""Refuses changes that break a client of what the last release published.

`docs/baseline` holds the documents of that release, `docs` those of today (a test keeps them true to the code).
There is a module of rules per kind of document, and `json_schema.py` for the shapes in OpenAPI, AsyncAPI and settings.
"""
