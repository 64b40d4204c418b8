"""The HTTP entry points of notifications: sent messages, users' preferences, bounces, and campaigns."""
