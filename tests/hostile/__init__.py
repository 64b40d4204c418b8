"""Clients that mean harm, and what the others see meanwhile."""
