"""Export jobs: a model made whole, or turned into GGUF, proved by being loaded and used, and then stored."""

import re
import shutil
import time
from typing import Any

from pydantic import ValidationError

from imts_shared.contracts.jobs import ExportRequest
from imts_shared.contracts.models import ModelInput, ModelKind, ProducedModel
from imts_shared.worker.engine import BadConfig, EngineJob


class Steps:
    """Says which step has begun, and heeds an order to stop between two of them."""

    def __init__(self, job: EngineJob, total: int) -> None:
        self._job, self._total, self._done = job, total, 0

    def begin(self, text: str) -> None:
        self._job.obey()
        self._job.progress(self._done, self._total)
        self._job.message(text)
        self._done += 1

    def end(self) -> None:
        self._job.obey()
        self._job.progress(self._total, self._total)


def export(job: EngineJob) -> dict[str, Any]:
    from training_service.export import gguf, merge, room, verify
    from training_service.models.finding import find

    began = time.monotonic()
    asked = asked_for(job.spec)
    as_gguf = asked.format == "gguf"
    if as_gguf:
        gguf.check_tools(asked.quantization or "q8_0")
    found = find(job, asked.model_name, job.message)
    merge.check(found, asked.model_name)
    room.check(job, found, asked)
    rewritten = bool(found.adapters) or not as_gguf
    steps = Steps(job, 3 + len(found.adapters) + rewritten + as_gguf * (2 if gguf.two_steps(asked.quantization) else 1))
    whole = merge.merged(job, found, asked, steps, job.scratch / "merged" if rewritten else None)
    out = job.scratch / "export"
    if as_gguf:
        out.mkdir()
        file = out / f"{_slug(asked)}-{asked.quantization or 'q8_0'}.gguf"
        gguf.write(job, whole, asked, file, steps)
        steps.begin("Loading the file and comparing it with the weights that it was made from.")
        verified = verify.gguf(job, file, whole, asked)
    else:
        out = whole.folder
        steps.begin("Loading the stored files and comparing them with the model in memory.")
        verified = verify.merged(whole, asked)
    if whole.merging:
        verified["merge"] = whole.merging
    for path in found.folder.glob("LICENSE*"):
        shutil.copy(path, out)
    details = _details(asked, whole)
    card = _card(job, asked, details, verified)
    (out / "README.md").write_text(card, encoding="utf-8")
    steps.begin("Storing it.")
    stored = job.publish(out, "model")
    steps.end()
    produced = ProducedModel(
        kind=ModelKind.gguf if as_gguf else ModelKind.merged,
        name=asked.output_name,
        prefix=stored.prefix,
        bytes=stored.bytes,
        files=stored.files,
        sha256=stored.sha256,
        base_model=asked.model_name,
        template=found.template,
        details=details,
        card=card,
    )
    return {
        "models": [produced.model_dump(mode="json", by_alias=True)],
        "verified": verified,
        "seconds": round(time.monotonic() - began, 3),
    }


def asked_for(spec: dict[str, Any]) -> ExportRequest:
    """With the defaults filled in; a specification may hold more than the request does."""
    known = {field.alias or name for name, field in ExportRequest.model_fields.items()}
    try:
        return ExportRequest.model_validate({name: value for name, value in spec.items() if name in known})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the request"
        raise BadConfig(f"{place}: {first['msg']}.", "Change that field and submit the job anew.") from error


def _slug(asked: ExportRequest) -> str:
    named = asked.output_name or asked.model_name.rstrip("/").rsplit("/", 1)[-1].partition("@")[0]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", named.removeprefix("builtin:")).strip("-.") or "model"


def _details(asked: ExportRequest, whole: Any) -> dict[str, Any]:
    details = {
        "architecture": whole.architecture,
        "parameters": whole.parameters,
        "contextLength": whole.context_length,
        "format": asked.format,
    }
    if asked.format == "gguf":
        return details | {"quantization": asked.quantization or "q8_0"}
    return details | {"dtype": whole.dtype}


def lineage(job: EngineJob, named: str) -> list[str]:
    """What the model stands on, topmost first."""
    model: ModelInput | None = next((model for model in job.models if model.named == named), None)
    if model is None:
        return [named]
    found = []
    while model is not None:
        found.append(f"{model.name} version {model.version} ({model.kind.value})")
        if model.base is None and (below := model.base_name or model.source):
            found.append(below)
        model = model.base
    return found


def _card(job: EngineJob, asked: ExportRequest, details: dict[str, Any], verified: dict[str, Any]) -> str:
    rows = [
        ("Made from", asked.model_name),
        ("Stands on", " < ".join(lineage(job, asked.model_name))),
        ("Architecture", details["architecture"]),
        ("Parameters", f"{details['parameters']:,}"),
        ("Context length", details["contextLength"]),
        ("Quantization" if asked.format == "gguf" else "Data type", details.get("quantization") or details["dtype"]),
        ("Verified by", verified["by"]),
        ("Distance from its source (KL, nats)", verified.get("kl")),
    ]
    lines = [
        f"# {asked.output_name or _slug(asked)} ({asked.format})",
        "",
        f"Made by IMTS in job {job.id}.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows if value is not None),
        "",
        "Asked to prove that it works:",
        "",
        *(f"> {line}" for line in asked.prompt.splitlines()),
        "",
        "it began to answer:",
        "",
        *(f"> {line}" for line in str(verified.get("answer", "")).splitlines() or [""]),
    ]
    return "\n".join(lines) + "\n"


__all__ = ["Steps", "asked_for", "export", "lineage"]
