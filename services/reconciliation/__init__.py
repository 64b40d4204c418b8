"""Money and stock that don't add up: found, told, and repaired where that is safe."""
