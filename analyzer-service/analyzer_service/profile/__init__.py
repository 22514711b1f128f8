"""What a profile says about a data set, computed in one pass with bounded memory."""
