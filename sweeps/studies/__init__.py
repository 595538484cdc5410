"""What can be asked of the engine: a sweep, an ablation, and what they will cost."""
