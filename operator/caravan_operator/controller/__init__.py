"""The running operator: watches fill the cache and the queue, workers take batches from the queue and call a
reconciler, the Lease keeps it to one process.
"""
