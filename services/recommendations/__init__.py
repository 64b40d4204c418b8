"""What to offer next, by rules over past orders."""
