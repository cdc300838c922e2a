"""Training on several nodes of a cluster: a TrainJob of Kubeflow Trainer v2, made, followed and removed."""
