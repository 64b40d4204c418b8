"""Shipments with a carrier."""
