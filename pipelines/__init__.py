"""The Kubeflow pipeline: the graph over `components`, its parameters and resources, and where it runs."""
