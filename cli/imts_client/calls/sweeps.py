"""Training sweeps."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from imts_client.calls.call import Call, Listing, path, query

if TYPE_CHECKING:
    from imts_shared.contracts.sweeps import Sweep, SweepRequest, SweepSummary


def submit(request: "SweepRequest", idempotency_key: str | None = None) -> "Call[Sweep]":
    return submit_fields(request.model_dump(mode="json", by_alias=True, exclude_unset=True), idempotency_key)


def submit_fields(fields: Mapping[str, Any], idempotency_key: str | None = None) -> "Call[Sweep]":
    """Always with an Idempotency-Key, so that a lost answer never makes a second sweep."""
    headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
    address = path("training", "sweeps")
    return Call("POST", address, "sweeps.Sweep", json=dict(fields), headers=headers, repeatable=True)


def find(project: str | None = None, limit: int | None = None) -> "Listing[SweepSummary]":
    params = query(project=project, limit=limit)
    return Listing(path("training", "sweeps"), "sweeps.SweepPage", "sweeps.SweepSummary", params)


def get(sweep_id: str) -> "Call[Sweep]":
    return Call("GET", path("training", "sweeps", sweep_id), "sweeps.Sweep", repeatable=True)


def stop(sweep_id: str) -> "Call[Sweep]":
    return Call("POST", path("training", "sweeps", sweep_id, "stop"), "sweeps.Sweep", repeatable=True)


def delete(sweep_id: str) -> "Call[None]":
    return Call("DELETE", path("training", "sweeps", sweep_id), repeatable=True)
