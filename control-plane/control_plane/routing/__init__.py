"""Routes, what was decided on them, and what was learned of it."""
