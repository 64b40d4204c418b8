"""The stages of a pass over resources of one kind: admit, observe, plan, apply, verify.

Each takes values and returns values, also of what failed. None of them writes a status, posts an Event or counts: the
reconciler calls them in their order and hands what they return to the reporter.
"""
