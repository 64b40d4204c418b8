"""Rehearses the alerts in a running shop: `make alerts` makes each fault, waits for its alert at a receiver of its own,
does what the runbook says, and waits until the alert has cleared; `make calm` waits for alerts that must not come.
"""
