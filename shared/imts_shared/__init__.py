"""What every IMTS service shares: the contracts and the runtime."""

__version__ = "0.1.0"
