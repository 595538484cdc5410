"""Whether the machines of a sweep can run it."""
