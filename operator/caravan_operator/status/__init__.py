"""What the operator says: conditions, Events, metrics, logs."""
