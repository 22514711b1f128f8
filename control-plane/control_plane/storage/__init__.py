"""Files that the control plane has to do with, beside the rows that name them."""
