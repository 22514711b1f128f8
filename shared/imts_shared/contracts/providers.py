"""Models of others that the gateway may ask: where they are, what they cost, and what takes their place."""

import re
from datetime import datetime
from enum import StrEnum
from ipaddress import AddressValueError, IPv6Address
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, WithJsonSchema

from imts_shared.contracts.base import Answer, ProjectName, Request

ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}$")]
ProviderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Price = Annotated[float, Field(ge=0, le=1_000_000)]
Weight = Annotated[float, Field(ge=0, le=1_000_000)]

_NAME = r"([A-Za-z0-9_-]{1,63}\.){0,30}[A-Za-z0-9_-]{1,63}\.?"
_V6 = r"\[::1\]|\[([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}\]"
_PORT = r":([1-5][0-9]{4}|[1-9][0-9]{0,3}|6[0-4][0-9]{3})"
_AFTER_HOST = rf"({_PORT})?(/[!\"$->@-~]*)?$"
_BASE_URL = rf"^https?://({_NAME}|{_V6}){_AFTER_HOST}"
_ANY_V6 = re.compile(rf"https?://\[([0-9A-Fa-f:.]+)\]{_AFTER_HOST}")
_ONE_LINE = r"^[!-~]([ -~]*[!-~])?$"


def _base_url(given: str) -> str:
    if re.match(r"https?://[^/?#]*@", given):
        raise ValueError("must hold no user name or password: give the provider's key as apiKey")
    if "?" in given or "#" in given:
        raise ValueError("must hold no query and no fragment")
    if len(given) > 2_000 or not (re.fullmatch(_BASE_URL, given) or _leads_to_v6(given)):
        raise ValueError("must be http:// or https://, a host in ASCII, and perhaps a port and a path")
    return given.rstrip("/")


def _leads_to_v6(given: str) -> bool:
    found = _ANY_V6.fullmatch(given)
    try:
        return found is not None and IPv6Address(found[1]).version == 6
    except AddressValueError:
        return False


def _one_line(given: SecretStr) -> SecretStr:
    if re.fullmatch(_ONE_LINE, given.get_secret_value()) is None:
        raise ValueError("must be printable ASCII on one line, without a space before or after it")
    return given


BaseUrl = Annotated[
    str, AfterValidator(_base_url), WithJsonSchema({"type": "string", "pattern": _BASE_URL, "maxLength": 2_000})
]
ProviderKey = Annotated[
    SecretStr,
    Field(min_length=1, max_length=4_096),
    AfterValidator(_one_line),
    WithJsonSchema(
        {
            "type": "string",
            "format": "password",
            "writeOnly": True,
            "pattern": _ONE_LINE,
            "minLength": 1,
            "maxLength": 4_096,
        }
    ),
]


class ProviderKind(StrEnum):
    openai = "openai"
    anthropic = "anthropic"
    ollama = "ollama"


class ProviderModel(Request):
    name: ModelName = Field(description="What callers name as `model`.")
    upstream_name: ModelName | None = Field(None, description="What the provider calls it; by default the same.")
    input_price: Price = Field(0, description="For a million tokens of prompts.")
    output_price: Price = Field(0, description="For a million tokens of answers.")
    cached_input_price: Price | None = Field(
        None, description="For a million tokens of prompts that the provider had in its cache; by default inputPrice."
    )
    weight: Weight = Field(1, description="Its share where several answer for one name; 0: only where no other can.")
    fallbacks: list[ModelName] = Field(
        default_factory=list, max_length=20, description="Models that answer, in this order, when none of this can."
    )


class UpstreamLimits(Request):
    """What the gateway sends there at most, over all of its replicas. null: no limit."""

    requests_per_minute: Annotated[int, Field(ge=1, le=10**9)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1, le=10**12)] | None = None
    concurrency: Annotated[int, Field(ge=1, le=100_000)] | None = None


class ProviderChange(Request):
    """What is named is changed. A key belongs to the address that it was given for: with another host comes another."""

    base_url: BaseUrl | None = Field(None, description="To another host only together with apiKey.")
    api_key: ProviderKey | None = Field(
        None, description="Stored encrypted, never shown; null takes the one away that there is."
    )
    models: list[ProviderModel] | None = Field(None, min_length=1, max_length=1_000)
    limits: UpstreamLimits | None = None
    allow_internal: bool | None = None
    enabled: bool | None = None


class ProviderRequest(Request):
    name: ProviderName
    kind: ProviderKind = ProviderKind.openai
    base_url: BaseUrl = Field(description="Up to and with /v1 where the provider has one.")
    api_key: ProviderKey | None = Field(None, description="Stored encrypted, never shown.")
    models: list[ProviderModel] = Field(min_length=1, max_length=1_000)
    limits: UpstreamLimits = Field(default_factory=UpstreamLimits)
    project: ProjectName | None = Field(
        None, description="Whose callers may use it. Without it: a member's own, and all projects' with an admin's key."
    )
    allow_internal: bool = Field(False, description="An admin allows an address of this machine or a private network.")
    enabled: bool = True


class Provider(Answer):
    id: str
    name: str
    kind: ProviderKind
    base_url: str
    has_api_key: bool
    models: list[ProviderModel]
    limits: UpstreamLimits
    project: str | None
    allow_internal: bool
    enabled: bool
    problem: str | None = Field(None, description="Why it is not used, and what to do.")
    created_at: datetime
    updated_at: datetime


class ProviderPage(Answer):
    items: list[Provider]
    next_cursor: str | None = None


class ProviderCheck(Answer):
    """What the provider said when it was asked for its models."""

    ok: bool
    message: str
    models: list[str] = Field(default_factory=list, description="As the provider calls them.")
