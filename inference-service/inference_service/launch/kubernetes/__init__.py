"""The launcher `kubernetes`: each replica a Deployment and a Service (docs/decisions/0014-kubernetes.md)."""
