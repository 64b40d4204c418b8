"""Orders: event-sourced, with a read database."""
