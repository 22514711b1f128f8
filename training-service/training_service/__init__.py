"""The training service: fine-tuning runs and what they are made of."""
