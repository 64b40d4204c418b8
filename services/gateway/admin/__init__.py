"""What administrators do to the whole shop: dead letters and jobs of every service."""
