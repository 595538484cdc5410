"""Every command that the documents show: that it is one (always), and that it does what they say (make test-readme)."""
