"""Why a model was chosen, in a sentence for the one who asks."""

from typing import Final

from inference_service.routing.decision import Candidate, Route
from inference_service.routing.features import Features

LANGUAGES: Final = {
    "zh": "Chinese",
    "en": "English",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "ru": "Russian",
    "ja": "Japanese",
    "ko": "Korean",
    "other": "foreign-language",
}
MANY_ANSWERS: Final = 20


def kind_of_request(features: Features) -> str:
    return f"{LANGUAGES[features.language]} {features.domain} questions"


def reason(
    route: Route, features: Features, candidates: list[Candidate], chosen: int, best: int, answers: int, pressure: float
) -> str:
    """`best` is the candidate with the highest score, `answers` what is known of the chosen one."""
    kind = kind_of_request(features)
    of = len(candidates)
    if of == 1:
        return f"the only candidate for {kind}"
    if chosen != best:
        return f"exploring: {answers} answers known of this model, {candidates[best].model} is expected to be better"
    pressing = " while the budget presses" if pressure > 0.1 else ""
    basis = "" if answers >= MANY_ANSWERS else f", by beliefs and {answers} answers"
    target = route.quality_target
    if target is not None:
        reaching = sum([each.expected_quality >= target for each in candidates])
        if candidates[chosen].expected_quality < target:
            return f"none of {of} reaches quality {target:g} for {kind}: the best for it{pressing}{basis}"
        if reaching == 1:
            return f"the only one of {of} that reaches quality {target:g} for {kind}{pressing}{basis}"
        return f"cheapest of {reaching} that reach quality {target:g} for {kind}{pressing}{basis}"
    worth = "best for its price" if pressure > 0.1 or route.cost_weight or route.latency_weight else "best expected"
    return f"{worth} quality ({candidates[chosen].expected_quality:.2f}) of {of} for {kind}{pressing}{basis}"
