"""Serves models: a gateway that callers speak to, and a worker that looks after the engines behind it."""
