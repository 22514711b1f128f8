"""Data sets: uploads, versions by content, and who uses them."""
