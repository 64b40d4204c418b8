"""Users, tokens and roles: the user service."""
