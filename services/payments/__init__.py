"""Charges, refunds and invoices."""
