"""Real sweeps that are killed, interrupted and broken, and end as if nothing had happened (`make test-faults`)."""
