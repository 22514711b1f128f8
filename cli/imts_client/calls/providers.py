"""Providers: models of others that the gateway may ask."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from imts_client.calls.call import Call, Listing, path, query

if TYPE_CHECKING:
    from imts_shared.contracts.providers import Provider, ProviderChange, ProviderCheck, ProviderRequest

PROVIDER = "providers.Provider"
CHECK_SECONDS = 60.0


def create(request: "ProviderRequest") -> "Call[Provider]":
    return create_fields(_fields(request))


def create_fields(fields: Mapping[str, Any]) -> "Call[Provider]":
    """Not repeatable: the second would be refused, for the name is taken by the first."""
    return Call("POST", path("providers"), PROVIDER, json=dict(fields))


def find(project: str | None = None, limit: int | None = None) -> "Listing[Provider]":
    return Listing(path("providers"), "providers.ProviderPage", PROVIDER, query(project=project, limit=limit))


def get(provider: str, project: str | None = None) -> "Call[Provider]":
    """`project`: where several projects have one of this name."""
    return Call("GET", path("providers", provider), PROVIDER, query(project=project), repeatable=True)


def change(provider: str, request: "ProviderChange", project: str | None = None) -> "Call[Provider]":
    return change_fields(provider, _fields(request), project)


def change_fields(provider: str, fields: Mapping[str, Any], project: str | None = None) -> "Call[Provider]":
    params = query(project=project)
    return Call("PATCH", path("providers", provider), PROVIDER, params, json=dict(fields), repeatable=True)


def delete(provider: str, project: str | None = None) -> "Call[None]":
    return Call("DELETE", path("providers", provider), params=query(project=project), repeatable=True)


def check(provider: str, project: str | None = None) -> "Call[ProviderCheck]":
    address, params = path("providers", provider, "check"), query(project=project)
    return Call("POST", address, "providers.ProviderCheck", params, repeatable=True, read_seconds=CHECK_SECONDS)


def _fields(request: "ProviderRequest | ProviderChange") -> dict[str, Any]:
    """pydantic writes stars for a secret; the platform has to get the key itself."""
    fields = request.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if request.api_key is not None:
        fields["apiKey"] = request.api_key.get_secret_value()
    return fields
