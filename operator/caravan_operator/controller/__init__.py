"""What moves: the watches, the queue, the pass over a batch, the sweep, the Lease, the probes."""
