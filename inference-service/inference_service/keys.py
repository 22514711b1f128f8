"""Which replica of all is meant."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Key:
    """One replica. A number of a revision is never two engines at once."""

    deployment_id: str
    revision: int
    number: int
