"""Looks after the deployments that the control plane gives to this worker: docs/decisions/0012-deployments.md."""
