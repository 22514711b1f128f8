"""A decision: all of it while its request runs, and afterwards what may still be told of it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from imts_shared.contracts.routes import Decision
from inference_service.gateway.quota import Grant
from inference_service.routing import decision as deciding
from inference_service.routing.features import Features, from_record


@dataclass(slots=True)
class Remembered:
    """What may still be told of a decision. Few and flat objects, as there are thousands of them and the interpreter
    looks through all of them again and again."""

    id: str
    project: str
    route: str
    key_id: str
    model: str
    made: bytes | Callable[[], bytes]
    told: bool = False
    answered: str | None = None
    """The model that did, which may be another than was chosen."""
    reported: bool = False
    raters: set[str | None] | None = None

    def flatten(self) -> bytes:
        """Encodes it, once: after the answer, as nobody waits then."""
        if not isinstance(self.made, bytes):
            self.made = self.made()
        return self.made

    @property
    def record(self) -> bytes:
        """The contracts' Decision, without a result."""
        return self.flatten()

    def with_result(self, result: dict[str, Any], asked: str | None) -> bytes:
        return self.record[:-1] + b',"asked":%b,"result":%b}' % (orjson.dumps(asked), orjson.dumps(result))

    def answer(self) -> Decision:
        return Decision.model_validate_json(self.record)

    def features(self) -> Features:
        record = orjson.loads(self.record)
        return from_record({**record["features"], "context": record["context"]})


@dataclass(slots=True)
class Decided:
    kept: Remembered
    features: Features
    choice: deciding.Decision
    at: float
    held: Grant
    """Of the route's budget."""
    judged: bool = False
    """Another model was asked, which took its time."""

    @property
    def id(self) -> str:
        return self.kept.id

    @property
    def route(self) -> str:
        return self.kept.route

    @property
    def model(self) -> str:
        return self.choice.model

    def in_order(self) -> list[str]:
        """The chosen one, then the others by what is expected of them."""
        others = sorted(self.choice.candidates, key=lambda one: -one.score)
        return [self.model, *(one.model for one in others if one.model != self.model)]


def record_of(
    identity: str,
    project: str,
    route: str,
    key_id: str,
    features: Features,
    choice: deciding.Decision,
    at: float,
) -> bytes:
    """A contracts' Decision as JSON, by hand: one is made for every request."""
    return orjson.dumps(
        {
            "decisionId": identity,
            "model": choice.model,
            "reason": choice.reason,
            "route": route,
            "project": project,
            "policy": choice.policy,
            "features": {**features.as_dict(), "rows": features.rows},
            "context": features.context.astype(np.float32),
            "candidates": [
                {
                    "model": one.model,
                    "score": round(one.score, 4),
                    "propensity": one.propensity,
                    "quality": round(one.expected_quality, 4),
                    "cost": one.expected_cost,
                    "latencySeconds": one.expected_latency,
                }
                for one in choice.candidates
            ],
            "at": datetime.fromtimestamp(at, UTC),
            "keyId": key_id,
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
