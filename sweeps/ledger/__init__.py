"""What happened: jobs, ledger, lock, folders."""
