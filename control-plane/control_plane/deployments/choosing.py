"""From the model that a deployment names to what an engine can serve, or why it cannot."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.models.finding import by_ids
from control_plane.models.naming import legal_name
from control_plane.models.resolving import resolve_model
from control_plane.models.rows import ModelRow
from control_plane.problems import Refusal
from imts_shared.contracts.deployments import Engine
from imts_shared.contracts.models import ModelKind

_STAGE = text("SELECT spec ->> 'stage' FROM jobs WHERE id = :id")
GGUF = ".gguf"


@dataclass(frozen=True)
class Chosen:
    """A model that is not an adapter. `base` is what adapters must stand on to be served with it."""

    named: str
    base: str
    name: str
    engine: Engine
    model_id: UUID | None = None


@dataclass(frozen=True)
class ChosenAdapter:
    named: str
    base: str
    base_named: str
    name: str
    model_id: UUID


async def choose(session: AsyncSession, project: str, named: str, field: str = "model") -> Chosen | ChosenAdapter:
    resolved = await resolve_model(session, project, named, field)
    if resolved.model_id is None:
        return outside(named)
    row = (await by_ids(session, [resolved.model_id])).get(resolved.model_id)
    if row is None:
        raise Refusal(409, "model_gone", f"The model {named!r} was deleted just now.", field=field)
    if row.kind == ModelKind.adapter:
        return await _adapter(session, named, row, field)
    await _check_answers(session, row, field)
    return whole(named, row)


def outside(named: str) -> Chosen:
    """What the registry does not hold: a built-in model, a path or a hub id."""
    engine = Engine.llamacpp if named.lower().endswith(GGUF) else Engine.vllm
    short = named.rstrip("/").rsplit("/", 1)[-1].removeprefix("builtin:")
    return Chosen(named, named, legal_name(short) or "model", engine)


def whole(named: str, row: ModelRow) -> Chosen:
    if row.kind == ModelKind.base:
        return Chosen(named, str(row.source), row.name, outside(str(row.source)).engine, row.id)
    engine = Engine.llamacpp if row.kind == ModelKind.gguf else Engine.vllm
    return Chosen(named, str(row.id), row.name, engine, row.id)


async def choose_adapter(session: AsyncSession, project: str, named: str, field: str) -> ChosenAdapter:
    chosen = await choose(session, project, named, field)
    if isinstance(chosen, Chosen):
        raise Refusal(
            409, "bad_adapter", f"{named!r} is a whole model and no adapter.", field=field,
            hint="Deploy it by itself: POST /api/deployments with it as the model.",
        )  # fmt: skip
    return chosen


async def _adapter(session: AsyncSession, named: str, row: ModelRow, field: str) -> ChosenAdapter:
    await _check_answers(session, row, field)
    if row.base_model_id is None:
        base = str(row.base_model or "")
        return ChosenAdapter(named, base, base, row.name, row.id)
    under = (await by_ids(session, [row.base_model_id]))[row.base_model_id]
    if under.kind == ModelKind.adapter:
        raise Refusal(
            422,
            "bad_adapter",
            f"The adapter {row.name!r} stands on {under.name!r}, an adapter itself: no engine stacks the two.",
            field=field,
            hint="Export it with format merged, and deploy what comes of it.",
        )
    return ChosenAdapter(named, whole("", under).base, str(under.id), row.name, row.id)


async def _check_answers(session: AsyncSession, row: ModelRow, field: str) -> None:
    if row.job_id is None:
        return
    stage = (await session.execute(_STAGE, {"id": row.job_id})).scalar_one_or_none()
    if stage == "rm":
        raise Refusal(
            422,
            "bad_model",
            f"{row.name!r} is a reward model: it scores answers and gives none.",
            field=field,
            hint="Deploy the model that it was trained beside, or another one.",
        )


def check_engine(asked: Engine | None, chosen: Chosen) -> Engine:
    """The engine that serves it; one that was asked for and cannot is refused."""
    if asked is None or asked == chosen.engine:
        return chosen.engine
    if asked == Engine.vllm:
        detail, hint = f"{chosen.named!r} is a GGUF file, which vLLM is not run with here.", "llamacpp"
    else:
        detail, hint = f"{chosen.named!r} is safetensors, and llama.cpp reads GGUF alone.", "vllm"
    cure = f"Leave `engine` out, or say {hint}."
    if asked == Engine.llamacpp:
        cure += " An export job with format gguf makes a GGUF file of it."
    raise Refusal(409, "bad_engine", detail, field="engine", hint=cure)


def check_adapter_engine(engine: Engine, field: str) -> None:
    if engine != Engine.vllm:
        raise Refusal(
            422, "bad_adapter", "llama.cpp is given no adapters here.", field=field,
            hint="Export the adapter with format gguf: it is merged into its base, and the file is deployed.",
        )  # fmt: skip


def check_same_base(adapter: ChosenAdapter, base: str, served: str, field: str) -> None:
    if adapter.base != base:
        raise Refusal(
            422,
            "bad_adapter",
            f"The adapter {adapter.name!r} stands on {adapter.base_named!r}, but the deployment serves {served!r}.",
            field=field,
            hint="Deploy the adapter by itself: its base gets an engine of its own.",
        )
