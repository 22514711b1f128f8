"""The registry of models: what jobs made, what they are made from, and the checkpoints they may come from."""
