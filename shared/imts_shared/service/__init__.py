"""What every service's process shares: its command, and its FastAPI app's frame."""
