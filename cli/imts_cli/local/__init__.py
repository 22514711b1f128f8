"""IMTS on one machine: the supervisor and what it looks after."""


class LocalError(Exception):
    """What stands in the way, and the cure, in one sentence for the user."""
