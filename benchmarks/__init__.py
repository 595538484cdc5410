"""What `make bench` measures: each item beside the straightforward way, in one run."""
