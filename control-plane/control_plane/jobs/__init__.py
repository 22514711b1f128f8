"""Jobs: their states, their journey, their events, logs and metrics."""
