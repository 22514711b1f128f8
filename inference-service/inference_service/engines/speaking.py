"""What the worker says to a running engine: is it up, generate one token, count, load and unload adapters."""

import re
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import httpx

CONNECT_SECONDS = 5.0
ADAPTER_SECONDS = 120.0
_SAMPLE = re.compile(r"^([a-zA-Z_:]+)(\{[^}]*\})? ([-+\d.eE]+|NaN)", re.MULTILINE)
COUNTED = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:kv_cache_usage_perc": "cacheUse",
    "vllm:request_success_total": "requests",
    "vllm:prompt_tokens_total": "promptTokens",
    "vllm:generation_tokens_total": "generationTokens",
    "vllm:num_preemptions_total": "preemptions",
    "vllm:prefix_cache_hits_total": "cacheHits",
    "vllm:prefix_cache_queries_total": "cacheQueries",
    "vllm:time_to_first_token_seconds_sum": "ttftSum",
    "vllm:time_to_first_token_seconds_count": "ttftCount",
    "vllm:inter_token_latency_seconds_sum": "tokenSum",
    "vllm:inter_token_latency_seconds_count": "tokenCount",
    "llamacpp:requests_processing": "running",
    "llamacpp:requests_deferred": "waiting",
    "llamacpp:prompt_tokens_total": "promptTokens",
    "llamacpp:tokens_predicted_total": "generationTokens",
    "llamacpp:n_decode_total": "decodes",
}
MEANS = {"ttftSeconds": ("ttftSum", "ttftCount"), "secondsPerToken": ("tokenSum", "tokenCount")}


class AdapterRefused(Exception):
    """The engine would not take it; the message is the engine's."""


class EngineAway(Exception):
    """It did not answer; it may yet."""


@dataclass(frozen=True)
class Silent:
    """The engine did not generate; `why` is what it said, or that it said nothing."""

    why: str


class EngineClient:
    def __init__(self, url: str, name: str) -> None:
        self._name = name
        self._http = httpx.AsyncClient(
            base_url=url, timeout=httpx.Timeout(30, connect=CONNECT_SECONDS), trust_env=False
        )
        self._embeds = False

    async def close(self) -> None:
        await self._http.aclose()

    async def up(self) -> bool:
        try:
            return (await self._http.get("/health", timeout=CONNECT_SECONDS)).status_code == 200
        except httpx.TransportError:
            return False

    async def generates(self, seconds: float) -> Silent | None:
        """None when one token came, or one embedding from a model that makes nothing else."""
        path, body = "/v1/completions", {"model": self._name, "prompt": "1", "max_tokens": 1}
        if self._embeds:
            path, body = "/v1/embeddings", {"model": self._name, "input": "1"}
        try:
            answer = await self._http.post(path, json=body, timeout=seconds)
        except httpx.TransportError as error:
            return Silent(f"no answer to a generation of one token within {seconds:g} s ({type(error).__name__})")
        if answer.is_success:
            return None
        if not self._embeds and answer.status_code in (400, 404, 405, 501):
            self._embeds = True
            other = await self.generates(seconds)
            self._embeds = other is None
            if other is None:
                return None
        return Silent(f"a generation of one token was answered {answer.status_code}: {answer.text[:300]}")

    async def counts(self) -> dict[str, float] | None:
        """None while it does not answer."""
        try:
            answer = await self._http.get("/metrics", timeout=CONNECT_SECONDS)
        except httpx.TransportError:
            return None
        return counted(answer.text) if answer.is_success else None

    async def adapters(self) -> dict[str, str]:
        """What is loaded, and from where; none where it does not say."""
        try:
            answer = await self._http.get("/v1/models", timeout=CONNECT_SECONDS)
            listed = answer.json()["data"] if answer.is_success else []
            return {str(one["id"]): str(one["root"]) for one in listed if one.get("parent")}
        except (httpx.TransportError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    async def load(self, name: str, folder: Path) -> float:
        """Seconds that it took."""
        began = monotonic()
        try:
            answer = await self._http.post(
                "/v1/load_lora_adapter",
                json={"lora_name": name, "lora_path": str(folder)},
                timeout=ADAPTER_SECONDS,
            )
        except httpx.TransportError as error:
            raise EngineAway(f"the engine did not answer ({type(error).__name__})") from error
        if not answer.is_success and "already been loaded" not in answer.text:
            raise AdapterRefused(_words(answer))
        return monotonic() - began

    async def unload(self, name: str) -> None:
        try:
            await self._http.post("/v1/unload_lora_adapter", json={"lora_name": name}, timeout=ADAPTER_SECONDS)
        except httpx.TransportError as error:
            raise EngineAway(f"the engine did not answer ({type(error).__name__})") from error


def counted(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, _, value in _SAMPLE.findall(text):
        known = COUNTED.get(name)
        if known is not None and value != "NaN":
            found[known] = found.get(known, 0.0) + float(value)
    for name, (total, count) in MEANS.items():
        summed, times = found.pop(total, 0.0), found.pop(count, 0.0)
        if times:
            found[name] = summed / times
    return found


def _words(answer: httpx.Response) -> str:
    try:
        said = answer.json()
        return str(said.get("error", {}).get("message") or said.get("message") or said)[:1_000]
    except (ValueError, AttributeError):
        return answer.text[:1_000] or f"it answered {answer.status_code}"
