"""The ways to train: each takes a job with its model and data ready, and leaves a model in a folder."""
