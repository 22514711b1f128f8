"""Models on this machine: made, found, downloaded, described."""
