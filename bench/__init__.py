"""Measures the shop: orders accepted and orders paid, beside what this machine can do at most, in the same run."""
