"""The words that services say to each other and to the world. Imports pydantic alone."""
