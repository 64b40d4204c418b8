"""The tables of recommendations: `history` writes them, `candidates` reads them."""
