"""What beliefs may be about is what requests are told apart by."""

from imts_shared.contracts import routes
from inference_service.routing.features import DOMAINS, LANGUAGES
from inference_service.routing.reasons import LANGUAGES as SPOKEN_OF


def test_a_belief_may_be_about_all_that_requests_are_told_apart_by() -> None:
    assert routes.LANGUAGES == LANGUAGES == tuple(SPOKEN_OF)
    assert routes.DOMAINS == DOMAINS
