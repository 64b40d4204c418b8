"""Programs that check the tree, or write parts of it."""
