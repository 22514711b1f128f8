"""One upstream that answers: how busy it is, whether it rests after a failure, and the choice among several."""

import random
import re
import time
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from yarl import URL

from imts_shared.contracts.providers import ProviderKind, UpstreamLimits
from inference_service.gateway.connections import Origin

FIRST_REST = 0.5
LONGEST_REST = 15.0
LONGEST_CLOSED = 300.0
"""A provider that says "not before tomorrow" is asked again sooner all the same."""
BELIEVED_SECONDS = 600.0
"""That an upstream does not take a field: it is asked again sometimes, as it may have refused something else."""
MILLION = 1_000_000
SECRET_LEAST = 12
"""Characters; what is shorter stands in ordinary words, too."""


@dataclass(frozen=True, slots=True)
class Prices:
    """For a million tokens."""

    input: float = 0.0
    output: float = 0.0
    cached_input: float | None = None

    def cost(self, input_tokens: int, cached_tokens: int, output_tokens: int) -> float:
        cached = self.input if self.cached_input is None else self.cached_input
        fresh = (input_tokens - cached_tokens) * self.input
        return (fresh + cached_tokens * cached + output_tokens * self.output) / MILLION


FREE = Prices()


@dataclass(frozen=True, slots=True)
class Provided:
    """What a provider's upstream has that an engine of ours has not."""

    identity: str
    name: str
    kind: ProviderKind
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    model: str
    """What it calls the model."""
    internal: bool
    """It may lie within this machine or network."""
    prices: Prices


class Target:
    """An engine process, or a model at a provider. Kept as long as snapshots name the same, and shared by all names
    that it answers for: its load is one."""

    __slots__ = (
        "_heads", "_no_sampling_until", "_no_usage_until", "_secrets", "closed_until", "failures", "in_flight",
        "limits", "origin", "probing", "provided", "replica", "rests_until", "seed", "url",
    )  # fmt: skip

    def __init__(self, url: str, replica: str, provided: Provided | None = None) -> None:
        self.url = url.rstrip("/")
        self.replica = replica
        self.provided = provided
        self.seed = zlib.crc32(replica.encode())
        self.in_flight = 0
        self.failures = 0
        self.rests_until = 0.0
        self.closed_until = 0.0
        """Before that it has said itself that it wants no request."""
        self.probing = False
        self._no_usage_until = 0.0
        self._no_sampling_until = 0.0
        self.limits: UpstreamLimits | None = None
        self.origin = _origin(URL(self.url), inside=provided is None or provided.internal)
        self._heads: dict[str, bytes] = {}
        self._secrets = _spellings(provided)

    @property
    def name(self) -> str:
        return self.provided.name if self.provided else "deployment"

    @property
    def prices(self) -> Prices:
        return self.provided.prices if self.provided else FREE

    @property
    def tells_usage(self) -> bool:
        """It takes the question for a stream's usage, as far as is known."""
        return time.monotonic() >= self._no_usage_until

    def does_not_tell_usage(self) -> None:
        self._no_usage_until = time.monotonic() + BELIEVED_SECONDS

    @property
    def takes_sampling(self) -> bool:
        return time.monotonic() >= self._no_sampling_until

    def does_not_take_sampling(self) -> None:
        self._no_sampling_until = time.monotonic() + BELIEVED_SECONDS

    def without_secrets(self, body: bytes) -> bytes:
        """Some providers repeat the key that they refuse."""
        return self._secrets.sub(b"***", body) if self._secrets is not None else body

    def said_without_secrets(self, text: str) -> str:
        return self.without_secrets(text.encode(errors="replace")).decode(errors="replace")

    def head(self, path: str) -> bytes:
        """What a request begins with."""
        found = self._heads.get(path)
        if found is None:
            url = URL(self.url)
            request = f"POST {url.raw_path.rstrip('/')}{path} HTTP/1.1\r\nhost: {url.host_port_subcomponent}\r\n"
            found = self._heads[path] = request.encode("ascii")
        return found

    def free(self, now: float) -> bool:
        """One that has failed gets one request to show that it is well again, and the rest when it has."""
        if self.closed_until > now or self.rests_until > now:
            return False
        return not (self.failures and self.probing)

    def begin(self) -> bool:
        """Whether this request shows if it is well again."""
        self.in_flight += 1
        probes = self.failures > 0 and not self.probing
        self.probing = self.probing or probes
        return probes

    def end(self, *, probed: bool) -> None:
        self.in_flight -= 1
        if probed:
            self.probing = False

    def failed(self) -> None:
        """Rests twice as long with each failure in a row. Failures of requests that were under way together count as
        one: they tell of one event."""
        now = time.monotonic()
        if now < self.rests_until:
            return
        self.rests_until = now + min(FIRST_REST * 2**self.failures, LONGEST_REST)
        self.failures = min(self.failures + 1, 10)

    def answered(self) -> None:
        self.failures = 0
        self.rests_until = 0.0

    def wants_none_for(self, seconds: float) -> None:
        self.closed_until = max(self.closed_until, time.monotonic() + min(seconds, LONGEST_CLOSED))


def _spellings(provided: Provided | None) -> re.Pattern[bytes] | None:
    """Of its secrets as they are, and as JSON may write them, also within a string of another JSON."""
    values = [value.removeprefix("Bearer ") for _, value in provided.headers] if provided else []
    secrets = ["".join(map(_spelling, value)) for value in values if len(value) >= SECRET_LEAST]
    return re.compile("|".join(secrets).encode()) if secrets else None


def _spelling(character: str) -> str:
    escape = "" if character.isalnum() else r"\\{0,4}"
    return rf"(?:{escape}{re.escape(character)}|\\{{1,4}}u(?i:{ord(character):04x}))"


def _origin(url: URL, *, inside: bool) -> Origin:
    return Origin(url.raw_host or "", url.port or 80, url.scheme == "https", inside)


@dataclass(frozen=True, slots=True)
class Offer:
    """A provider's model under one name."""

    target: Target
    weight: float


def choose(
    engines: Sequence[Target],
    offers: Sequence[Offer],
    but: Collection[Target] = (),
    affinity: int | None = None,
    *,
    last_resort: bool = True,
) -> Target | None:
    """Engines of a deployment count as one with the weight 1 among the offers of providers. One that rests is taken
    only as the last resort, where that is better than none; one that has asked to be left alone is not taken."""
    now = time.monotonic()
    if not offers and len(engines) == 1 and not but and engines[0].free(now):
        return engines[0]
    left = [target for target in engines if target not in but and target.closed_until <= now]
    free = [target for target in left if target.free(now)]
    if not offers:
        if free:
            return _of_engines(free, affinity)
        return min(left, key=lambda target: target.rests_until, default=None) if last_resort else None
    open_offers = [offer for offer in offers if offer.target not in but and offer.target.closed_until <= now]
    ready = [offer for offer in open_offers if offer.target.free(now)]
    choice = _weighted(free, ready, affinity)
    if choice is not None or not last_resort:
        return choice
    resting = [*left, *(offer.target for offer in open_offers)]
    return min(resting, key=lambda target: target.rests_until, default=None)


def _weighted(free: Sequence[Target], ready: Sequence[Offer], affinity: int | None) -> Target | None:
    whole = sum(offer.weight for offer in ready)
    if free:
        point = random.random() * (whole + 1)  # noqa: S311
        if point >= whole:
            return _of_engines(free, affinity)
    elif not ready:
        return None
    else:
        point = random.random() * whole  # noqa: S311
    for offer in ready:
        point -= offer.weight
        if point < 0:
            return offer.target
    return min(ready, key=lambda offer: (-offer.weight, offer.target.in_flight)).target


def _of_engines(free: Sequence[Target], affinity: int | None) -> Target:
    """The engine that has seen the same beginning before, unless it is much busier than the others; else the less busy
    of two at random."""
    if len(free) == 1:
        return free[0]
    if affinity is not None:
        own = max(free, key=lambda target: hash((affinity, target.seed)))
        if own.in_flight <= 2 + 1.25 * sum(target.in_flight for target in free) / len(free):
            return own
    one, other = random.sample(free, 2)
    return one if one.in_flight <= other.in_flight else other
