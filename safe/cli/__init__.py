"""What `python -m safe` does, one module per command; each loads torch only once its input is checked."""
