"""Training, as far as the control plane has a say in it."""
