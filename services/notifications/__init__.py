"""E-mail, SMS and log messages to customers."""
