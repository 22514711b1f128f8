"""The worker runtime: everything between a Celery message and an engine's `run`."""
