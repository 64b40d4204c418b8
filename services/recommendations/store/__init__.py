"""The tables of recommendations: `history` takes in, `candidates` answers."""
