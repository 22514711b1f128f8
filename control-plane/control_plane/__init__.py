"""The control plane: the REST API, the watcher, and the only writer of Postgres."""
