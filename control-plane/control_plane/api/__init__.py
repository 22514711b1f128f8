"""The REST API: stands above the domains."""
