"""Deployments: what is wanted, what was last seen of it, and which inference worker looks after it."""
