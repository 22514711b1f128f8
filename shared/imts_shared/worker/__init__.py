"""The worker runtime: everything between a Celery message and an engine's `run`.

A service becomes a worker by one call of `imts_shared.worker.runtime.run_worker`; its engine imports
`imts_shared.worker.engine`. The call belongs into a package's `__main__`: Python's forkserver imports any other
main module anew in every child. Nothing is imported here: a child needs no Celery, and a sender of messages no engine.
"""
