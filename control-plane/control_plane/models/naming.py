"""Names of models: which are legal, and what a model is called when nobody said."""

import re
from typing import Any

from control_plane.jobs.rows import JobRow

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OTHER = re.compile(r"[^A-Za-z0-9._-]+")


def legal_name(text: Any) -> str | None:
    """The text as far as a model may be called so."""
    name = _OTHER.sub("-", str(text or "")).strip("-._")[:100].rstrip("-._")
    return name or None


def default_name(job: JobRow, base_model: str | None, asked: str | None = None) -> str:
    """What was asked for, else the job's outputName, its name, or one made of its base."""
    for wish in (asked, job.spec.get("outputName"), job.name):
        name = legal_name(wish)
        if name is not None:
            return name
    base = re.split(r"[/\\:]", (base_model or "").rstrip("/\\"))[-1].partition("@")[0]
    stage = job.spec.get("stage") or job.kind
    return f"{legal_name(base[-60:]) or 'model'}-{legal_name(str(stage)[:20])}-{str(job.id)[:8]}"
