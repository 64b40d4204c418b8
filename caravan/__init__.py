"""The kernel: mechanism only. It names no service and holds no business rule; `runtime` wires what a process was asked
to run.
"""
