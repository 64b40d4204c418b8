"""The queries of payments, a file for each kind of row. Rows of several orders are locked in the order of their ids."""
