"""A worker process for chaos."""
