"""From a model's name to files of this machine that an engine can read."""
