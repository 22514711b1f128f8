"""How an engine comes to run."""
