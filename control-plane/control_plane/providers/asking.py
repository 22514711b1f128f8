"""Asking a provider what models it has, as the gateway would ask it: to the address that was checked, and no further.

What it answers is not repeated but for models' names: some providers repeat the key that they refuse.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from control_plane.addresses import AddressRefused, pinned, resolve, target
from imts_shared.contracts.providers import Provider, ProviderCheck, ProviderKind

PATIENCE_SECONDS = 10.0
MOST_BYTES = 8 * 2**20
MOST_MODELS = 5_000
_SAYS = {
    401: "it refuses the key",
    403: "it refuses the key",
    404: "there is no list of models at this address: check baseUrl",
    429: "it has too much to do, or the key's quota is used up",
}


class _Unfit(Exception):
    """It answers something else than a list of models."""


@dataclass(frozen=True)
class _Question:
    url: str
    headers: dict[str, str]


def _questions(provider: Provider, key: str | None) -> list[_Question]:
    """The first one that is not answered with 404 counts."""
    base = provider.base_url
    root = base.removesuffix("/v1")
    bearer = {"authorization": f"Bearer {key}"} if key else {}
    if provider.kind == ProviderKind.anthropic:
        named = {"anthropic-version": "2023-06-01"} | ({"x-api-key": key} if key else {})
        return [_Question(f"{root}/v1/models", named)]
    if provider.kind == ProviderKind.ollama:
        return [_Question(f"{root}/api/tags", bearer), _Question(f"{root}/v1/models", bearer)]
    return [_Question(f"{base}/models", bearer)]


async def ask(provider: Provider, key: str | None) -> ProviderCheck:
    said = ProviderCheck(ok=False, message="it was not asked")
    try:
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            httpx.AsyncClient(timeout=PATIENCE_SECONDS, follow_redirects=False, trust_env=False) as http,
        ):
            for question in _questions(provider, key):
                status, body = await _get(http, question, allow_internal=provider.allow_internal)
                said = _judged(provider, status, body)
                if status != 404:
                    break
    except AddressRefused as error:
        return ProviderCheck(ok=False, message=f"{error}: only an admin's key may allow that.")
    except _Unfit as error:
        return ProviderCheck(ok=False, message=f"{error}.")
    except TimeoutError:
        return ProviderCheck(ok=False, message=f"It does not answer within {PATIENCE_SECONDS:.0f} seconds.")
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        return ProviderCheck(ok=False, message=f"It cannot be reached: {type(error).__name__}.")
    return said


async def _get(http: httpx.AsyncClient, question: _Question, *, allow_internal: bool) -> tuple[int, bytes]:
    where = target(question.url)
    address = await resolve(where.host, where.port, allow_internal=allow_internal)
    headers = {**question.headers, "accept": "application/json", "accept-encoding": "identity"}
    answer = await http.send(pinned(http, "GET", where, address, headers), stream=True)
    try:
        body = bytearray()
        async for chunk in answer.aiter_raw():
            body += chunk
            if len(body) > MOST_BYTES:
                raise _Unfit(f"Its list of models is longer than {MOST_BYTES} bytes")
        return answer.status_code, bytes(body)
    finally:
        await answer.aclose()


def _judged(provider: Provider, status: int, body: bytes) -> ProviderCheck:
    if status != 200:
        why = _SAYS.get(status, "it leads elsewhere: give that address" if 300 <= status < 400 else "see its own log")
        return ProviderCheck(ok=False, message=f"It answers with HTTP {status}: {why}.")
    models = _names(body)
    there = set(models) | {name.removesuffix(":latest") for name in models}
    missing = [one.upstream_name or one.name for one in provider.models]
    missing = [name for name in missing if name not in there]
    more = f" It does not list {', '.join(missing[:10])}: check upstreamName." if missing else ""
    return ProviderCheck(ok=True, message=f"It answers and lists {len(models)} models.{more}", models=models)


def _names(body: bytes) -> list[str]:
    try:
        content: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _Unfit("Its answer is not JSON: check baseUrl") from None
    found = (content.get("data") or content.get("models")) if isinstance(content, dict) else None
    if not isinstance(found, list):
        raise _Unfit("Its answer is not a list of models: check baseUrl") from None
    named = (one.get("id") or one.get("name") for one in found[:MOST_MODELS] if isinstance(one, dict))
    return [name[:200] for name in named if isinstance(name, str)]
