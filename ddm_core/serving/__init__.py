"""The registered model: its files, its code, its card, and its versions in the MLflow registry."""
