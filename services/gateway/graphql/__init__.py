"""One graph over all services (`/graphql`): queries, mutations for the writes of the REST API, and live status.

A request passes these modules in order: `api.py` reads it (over a WebSocket `handshake.py` and `sockets.py` do),
`documents.py` finds or checks its document, `plan.py` says what it may cost and who may ask it, `query_answers.py`
looks for its answer in the cache, `execution.py` runs it, `joins.py` asks the services for what belongs together, and
`service_calls.py` makes the calls. Everything is read and written through the services' public APIs with the caller's
own token, so that who may see what is decided where it is for REST: in the services.

`schema.py` puts the graph together: the shapes of `types.py`, derived from the services' schemas by `shapes.py`, and
the fields of `queries.py`, `mutations.py` and `subscriptions.py`.
"""
