"""What is asked for: space, conditions, objective, specification, options, titles."""
