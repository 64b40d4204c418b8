"""What is shown at the gateway."""
