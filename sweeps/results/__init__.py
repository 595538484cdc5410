"""What came of it, as pure functions of the ledger: selection, summary, accounting, statistics."""
