"""What the gateway counts. Names of models come from snapshots alone, so that callers cannot make up series."""

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_SHORT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1)

REQUESTS = Counter("imts_gateway_requests_total", "Requests answered, by model and status.", ("model", "status"))
CUT = Counter("imts_gateway_cut_total", "Answers that broke off at the engine after their first byte.", ("model",))
HUNG_UP = Counter("imts_gateway_hung_up_total", "Requests whose caller hung up before the end.", ("model",))
TRIES_LOST = Counter("imts_gateway_tries_lost_total", "Tries at an engine that gave no byte.", ("model",))
FIRST_BYTE = Histogram(
    "imts_gateway_first_byte_seconds",
    "From the request to the first byte of its answer, waiting for a model included.",
    ("model",),
    buckets=_SECONDS,
)
OVERHEAD = Histogram(
    "imts_gateway_overhead_seconds",
    "What the gateway itself adds to the first byte: neither the engine's time nor waiting for a model.",
    ("model",),
    buckets=_SHORT,
)
IN_FLIGHT = Gauge("imts_gateway_in_flight", "Requests that are being answered, by model.", ("model",))
WAITING = Gauge("imts_gateway_waiting", "Requests that wait for a model to wake or start.")
BODIES_BYTES = Gauge("imts_gateway_bodies_bytes", "Of requests that are being answered; small ones are not counted.")
SNAPSHOT_AGE = Gauge("imts_gateway_snapshot_age_seconds", "Since the control plane was last heard.")

PARTS_DECLINED = Counter(
    "imts_gateway_parts_declined_total", "Parts of usage that the control plane would not take; they lie on the disk."
)
NOT_KEPT = Counter("imts_gateway_not_kept_total", "Decisions, feedback and log lines given up for want of room.")
TOKENS = Counter("imts_gateway_tokens_total", "Tokens, by model and direction.", ("model", "direction"))
COST = Counter("imts_gateway_cost_total", "Money spent at providers, by model.", ("model",))
LIMITED = Counter("imts_gateway_limited_total", "Requests refused for a rate or a budget.", ("limit",))
FELL_BACK = Counter("imts_gateway_fallbacks_total", "Requests that another model answered.", ("model",))


class OfModel:
    """A model's own series, looked up once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cut = CUT.labels(name)
        self.hung_up = HUNG_UP.labels(name)
        self.tries_lost = TRIES_LOST.labels(name)
        self.first_byte = FIRST_BYTE.labels(name)
        self.overhead = OVERHEAD.labels(name)
        self.in_flight = IN_FLIGHT.labels(name)
        self.fell_back = FELL_BACK.labels(name)
        self.cost = COST.labels(name)
        self.input = TOKENS.labels(name, "input")
        self.output = TOKENS.labels(name, "output")


@cache
def of_model(name: str) -> OfModel:
    return OfModel(name)


@cache
def requests(model: str, status: int) -> Counter:
    return REQUESTS.labels(model, str(status))
