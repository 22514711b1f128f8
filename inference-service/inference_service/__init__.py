"""The inference service: engines that serve models."""
