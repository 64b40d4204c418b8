"""The queries of inventory, each for a whole batch: `stock_table` with its ledger, `reservation_table`, and
`stock_changes`, which saves the changes of both together.
"""
