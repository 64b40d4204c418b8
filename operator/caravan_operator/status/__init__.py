"""The operator's output: conditions, Events, metrics, logs."""
