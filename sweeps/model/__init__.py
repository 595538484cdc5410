"""The final model of a sweep in MLflow."""
