"""How many bytes of bodies the gateway holds at once, over all requests."""

from inference_service.gateway.errors import Refusal, unavailable

SMALL_BYTES = 64 * 2**10
"""A body of so much or less is not counted, and always finds room."""


class Holding:
    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    def expects(self, size: int) -> None:
        """Raises what `take` would raise if all of a body came now."""
        if size > SMALL_BYTES and size > self.most - self.held:
            raise _full()

    def take(self, size: int) -> None:
        if size > self.most - self.held:
            raise _full()
        self.held += size

    def give_back(self, size: int) -> None:
        self.held -= size


def _full() -> Refusal:
    message = "The gateway holds as many bytes of other requests as it may: try again."
    return unavailable(message, "gateway_full", retry_after=1)
