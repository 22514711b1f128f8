"""Workers: who is there, with how many slots."""
