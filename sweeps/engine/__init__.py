"""The driver: a study carried out, its jobs handed to Tune and written down."""
