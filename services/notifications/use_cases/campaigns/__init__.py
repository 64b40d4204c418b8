"""Campaigns: promotional mail to a segment, now or at its time, in chunks.

A run is a row, once per campaign and time. It writes its messages chunk by chunk, each in one unit of work that also
records how far it is among the users. So everybody gets one message, however often a run is stopped, killed or started
twice.
"""
