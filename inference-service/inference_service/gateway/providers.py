"""What providers offer, as the newest snapshot has it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from loguru import logger
from yarl import URL

from imts_shared.addresses import is_named_internal
from imts_shared.contracts.providers import ProviderKind, ProviderModel, UpstreamLimits
from imts_shared.contracts.serving import KnownProvider
from imts_shared.sealing import Unopened
from inference_service.gateway.targets import Offer, Prices, Provided, Target

NO_LIMITS = UpstreamLimits()
ANTHROPIC_VERSION = "2023-06-01"


@dataclass(frozen=True, slots=True)
class Named:
    offer: Offer
    fallbacks: tuple[str, ...]


Offers = dict[str | None, dict[str, list[Named]]]
"""By project, and by the name that callers ask for."""


class Providers:
    def __init__(self, open_key: Callable[[str, str], str] | None) -> None:
        self._open_key = open_key
        self._targets: dict[tuple[str, Provided], Target] = {}

    def offers(self, providers: Iterable[KnownProvider]) -> Offers:
        before, self._targets = self._targets, {}
        found: Offers = {}
        for provider in providers:
            url = URL(provider.base_url)
            if not provider.allow_internal and is_named_internal(url.host or ""):
                logger.error("a provider lies at an internal address, so it is not asked", provider=provider.name)
                continue
            try:
                headers = self._headers(provider)
            except Unopened:
                logger.error("a provider's key cannot be opened, so it is not asked", provider=provider.name)
                continue
            address = _address(url, provider.kind)
            for model in provider.models:
                which = (address, _provided(provider, model, headers))
                target = before.get(which) or Target(address, f"{provider.name}/{model.name}", which[1])
                target.limits = provider.limits if provider.limits != NO_LIMITS else None
                self._targets[which] = target
                named = found.setdefault(provider.project, {}).setdefault(model.name, [])
                named.append(Named(Offer(target, model.weight), tuple(model.fallbacks)))
        return found

    def _headers(self, provider: KnownProvider) -> tuple[tuple[str, str], ...]:
        key = ""
        if provider.sealed_key is not None:
            if self._open_key is None:
                raise Unopened
            key = self._open_key(provider.sealed_key, provider.id)
        if provider.kind == ProviderKind.anthropic:
            version = ("anthropic-version", ANTHROPIC_VERSION)
            return (("x-api-key", key), version) if key else (version,)
        return (("authorization", f"Bearer {key}"),) if key else ()


def _address(url: URL, kind: ProviderKind) -> str:
    """Where the paths of its protocol begin. OpenAI's begin below /v1, which an address without any path leaves out."""
    text = str(url).rstrip("/")
    if kind == ProviderKind.anthropic:
        return text.removesuffix("/v1")
    return f"{text}/v1" if url.path in {"", "/"} else text


def _provided(provider: KnownProvider, model: ProviderModel, headers: tuple[tuple[str, str], ...]) -> Provided:
    return Provided(
        provider.id,
        provider.name,
        provider.kind,
        headers,
        model.upstream_name or model.name,
        provider.allow_internal,
        Prices(model.input_price, model.output_price, model.cached_input_price),
    )


def fallbacks(found: Sequence[Named]) -> tuple[str, ...]:
    """Of all that answer for a name, each once, in the order in which they are named."""
    return tuple(dict.fromkeys(name for one in found for name in one.fallbacks))
