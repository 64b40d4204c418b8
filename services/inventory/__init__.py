"""Stock, reservations and their ledger."""
