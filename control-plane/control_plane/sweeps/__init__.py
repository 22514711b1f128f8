"""Training sweeps: their children are ordinary training jobs."""
