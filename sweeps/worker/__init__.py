"""What runs inside a process of Ray: the trainable, its files and the store of shared stages."""
