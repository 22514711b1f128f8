"""What of a request is wrong, or has no counterpart at Anthropic.

A name of the caller's own can be part of the place, so the place is cut."""

from inference_service.gateway.errors import Refusal

PLACE_CHARACTERS = 300


def wrong(param: str, must: str) -> Refusal:
    place = param[:PLACE_CHARACTERS]
    return Refusal(400, f"`{place}` {must}.", code="invalid_value", param=place)


def not_carried(param: str, cure: str) -> Refusal:
    place = param[:PLACE_CHARACTERS]
    message = f"`{place}` has no counterpart at this model's provider (Anthropic): {cure}."
    return Refusal(400, message, code="unsupported_parameter", param=place)
