"""What a sweep may be asked for, and by whom."""

import asyncio
from typing import Any

import httpx
import psycopg
import pytest

from control_plane.training.checker import Checker
from imts_shared.contracts.access import Role
from tests.control_plane.conftest import NewKey
from tests.control_plane.sweeps_side import BASE, Side

REFUSED: list[tuple[dict[str, Any], int, str, str, str]] = [
    ({"parameters": {"learningrate_": {"values": [1]}}}, 422, "unknown_field", "parameters.learningrate_",
     "learningRate"),
    ({"parameters": {"learning_rate": {"values": [1]}, "learningRate": {"values": [1]}}}, 422, "conflicting_fields",
     "parameters.learningRate", "once"),
    ({"parameters": {"advanced.learning_rate": {"values": [1]}}}, 422, "conflicting_fields",
     "parameters.advanced.learning_rate", "learningRate"),
    ({"parameters": {"num_train_epochs": {"values": [1]}}}, 422, "unknown_field", "parameters.num_train_epochs",
     "epochs"),
    ({"parameters": {"name": {"values": ["a"]}}}, 422, "unknown_field", "parameters.name", "sweep"),
    ({"parameters": {"learningRate": {"values": [1e-4, "fast"]}}}, 422, "invalid_request",
     "parameters.learningRate", ""),
    ({"parameters": {"loraDropout": {"min": 0, "max": 1, "step": 0.5}}}, 422, "invalid_request",
     "parameters.loraDropout", ""),
    ({"parameters": {"learningRate": {"min": 1e-5, "max": 1e-3}}}, 422, "bad_range", "parameters.learningRate", "step"),
    ({"parameters": {"learningRate": {"min": 1e-3, "max": 1e-5, "step": 1}}}, 422, "bad_range",
     "parameters.learningRate", ""),
    ({"parameters": {"learningRate": {"min": 1e-5}}}, 422, "missing_field", "parameters.learningRate", ""),
    ({"parameters": {"learningRate": {"values": [1], "max": 1}}}, 422, "conflicting_fields",
     "parameters.learningRate", ""),
    ({"parameters": {"epochs": {"values": [1]}}}, 422, "conflicting_fields", "parameters.epochs", "maxSteps"),
    ({"parameters": {"advanced.x": {"min": 0, "max": 1e9, "step": 1e-9}}}, 422, "bad_range",
     "parameters.advanced.x", ""),
    ({"parameters": {"loraRank": {"min": 1.5, "max": 4}}}, 422, "bad_range", "parameters.loraRank", ""),
    ({"parameters": {"seed": {"min": 1, "max": 501}}}, 422, "too_many_trials", "parameters", "random"),
    ({"parameters": {"seed": {"values": [1, 2]}}, "method": "random", "trials": 3}, 422, "too_many_trials",
     "trials", "2"),
    ({"parameters": {"seed": {"values": [1, 2]}}, "method": "random"}, 422, "missing_field", "trials", ""),
    ({"parameters": {"seed": {"values": [1, 2]}}, "trials": 2}, 422, "conflicting_fields", "trials", "random"),
    ({"parameters": {"seed": {"values": [1]}}, "asha": {}}, 422, "conflicting_fields", "asha", ""),
    ({"parameters": {"seed": {"values": [1]}}, "base": {**BASE, "dataset": "nowhere"}}, 404, "unknown_dataset",
     "base.dataset", ""),
    ({"parameters": {"dataset": {"values": ["nowhere"]}}}, 404, "unknown_dataset", "parameters.dataset", ""),
    ({"parameters": {"seed": {"values": [1]}}, "base": {**BASE, "epochz": 3}}, 422, "invalid_request", "base.epochz",
     "epochs"),
    ({"parameters": {"seed": {"values": [1]}}, "labels": {"imts/sweep": "x"}}, 409, "conflicting_fields",
     "labels.imts/sweep", ""),
    ({"parameters": {"seed": {"values": [1]}}, "project": "nowhere"}, 404, "unknown_project", "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "code", "field", "hint"), REFUSED)
async def test_what_cannot_be_is_refused_at_once(
    admin: httpx.AsyncClient, database_url: str, body: dict[str, Any], status: int, code: str, field: str, hint: str
) -> None:
    answer = await admin.post("/api/training/sweeps", json={"base": BASE, **body})
    told = answer.json()
    assert (answer.status_code, told["code"]) == (status, code), answer.text
    assert told.get("field", "") == field
    assert hint in told.get("hint", "")
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT (SELECT count(*) FROM sweeps) + (SELECT count(*) FROM jobs)").fetchone() == (
            0,
        )


async def test_the_first_job_is_checked_as_an_ordinary_one(
    admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from control_plane.problems import Refusal

    async def checked(self: Any, spec: dict[str, Any], *_: Any) -> dict[str, Any]:
        raise Refusal(422, "bad_config", "There is no argument 'neftune_alfa'.", field="advanced.neftune_alfa")

    monkeypatch.setattr(Checker, "checked", checked)
    body = {"base": {**BASE, "advanced": {"x": 1}}, "parameters": {"advanced.neftune_alfa": {"values": [1]}}}
    told = (await admin.post("/api/training/sweeps", json=body)).json()
    assert (told["code"], told["field"]) == ("bad_config", "parameters.advanced.neftune_alfa")
    body["parameters"] = {"seed": {"values": [1]}}
    told = (await admin.post("/api/training/sweeps", json=body)).json()
    assert told["field"] == "base.advanced.neftune_alfa"


async def test_roles_and_projects(side: Side, url: str, new_key: NewKey, member: httpx.AsyncClient) -> None:
    sweep_id = await side.sweep(parameters={"seed": {"values": [1]}})
    theirs = await side.sweep(parameters={"seed": {"values": [1]}}, project="other")
    assert [one["id"] for one in (await side.client.get("/api/training/sweeps")).json()["items"]] == [theirs, sweep_id]
    page = (await side.client.get("/api/training/sweeps", params={"limit": 1})).json()
    rest = await side.client.get("/api/training/sweeps", params={"limit": 1, "cursor": page["nextCursor"]})
    assert [one["id"] for one in rest.json()["items"]] == [sweep_id]
    assert [one["id"] for one in (await member.get("/api/training/sweeps")).json()["items"]] == [sweep_id]
    assert (await member.get(f"/api/training/sweeps/{theirs}")).status_code == 404
    assert (await member.post(f"/api/training/sweeps/{theirs}/stop")).status_code == 404
    headers = {"Authorization": f"Bearer {await new_key(Role.viewer)}"}
    async with httpx.AsyncClient(base_url=url, headers=headers) as viewer:
        assert (await viewer.get(f"/api/training/sweeps/{sweep_id}")).status_code == 200
        assert (await viewer.post(f"/api/training/sweeps/{sweep_id}/stop")).status_code == 403
        body = {"base": BASE, "parameters": {"seed": {"values": [1]}}}
        assert (await viewer.post("/api/training/sweeps", json=body)).status_code == 403
    await side.advance()
    assert {job["project"] for job in await side.children(theirs)} == {"other"}


async def test_the_same_key_makes_one_sweep(admin: httpx.AsyncClient) -> None:
    body = {"base": BASE, "parameters": {"seed": {"values": [1]}}}
    headers = {"Idempotency-Key": "k"}
    asked = [admin.post("/api/training/sweeps", json=body, headers=headers) for _ in range(4)]
    answers = await asyncio.gather(*asked)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = await admin.post("/api/training/sweeps", json={**body, "seed": 1}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
