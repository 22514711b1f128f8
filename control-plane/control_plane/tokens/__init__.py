"""Tokens that a project's jobs show to other services, encrypted at rest."""
