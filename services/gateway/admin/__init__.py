"""What administrators do across services: dead letters and background jobs."""
