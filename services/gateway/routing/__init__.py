"""Finds the service of a request (table, rules, trie) and passes the request on (forwarding, upstreams)."""
