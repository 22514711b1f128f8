"""Whether an export fits on the disk, asked before anything is written."""

import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imts_shared.contracts.jobs import ExportRequest
from imts_shared.worker.engine import BadConfig, EngineJob, OutOfDisk
from training_service.models.finding import Found

BYTES = {"bf16": 2.0, "fp16": 2.0, "fp32": 4.0}
BITS = {
    "f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5, "q6_k": 6.6, "q5_k_m": 5.7, "q5_k_s": 5.6, "q4_k_m": 4.9,
    "q4_k_s": 4.7, "q3_k_l": 4.4, "q3_k_m": 4.1, "q3_k_s": 3.7, "q2_k": 3.4,
}  # fmt: skip
"""Of one weight. Models whose rows are no multiple of 256 take more with the K-quants: those fall back to others."""
SPARE = 64 * 2**20


def tensors(folder: Path) -> Iterator[dict[str, Any]]:
    """Every tensor's dtype and shape, out of the files' headers."""
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 0 < length < min(path.stat().st_size, 100_000_000):
                raise BadConfig(f"The weights {path.name} are damaged.", "Bring the model's files again.")
            header = json.loads(file.read(length))
        for name, tensor in header.items():
            if name != "__metadata__":
                yield tensor


def needed(folder: Path, asked: ExportRequest, *, rewritten: bool) -> int:
    """The files in scratch and the copy that is stored."""
    count = own = 0
    for tensor in tensors(folder):
        size = 1
        for dimension in tensor["shape"]:
            size *= dimension
        count += size
        begin, end = tensor["data_offsets"]
        own += end - begin
    whole = count * BYTES[asked.dtype] if asked.dtype in BYTES else own
    if asked.format == "merged":
        return int(2 * whole) + SPARE
    bits = BITS[asked.quantization or "q8_0"]
    between = 2 * count if asked.quantization not in (None, "f32", "f16", "bf16", "q8_0") else 0
    wider = 1.4 if between else 1.02
    return int(2 * wider * count * bits / 8 + between + (own if rewritten else 0)) + SPARE


def check(job: EngineJob, found: Found, asked: ExportRequest) -> None:
    need = needed(found.folder, asked, rewritten=bool(found.adapters))
    free = shutil.disk_usage(job.scratch).free
    if free < need:
        raise OutOfDisk(
            f"This export needs about {need / 1e9:.1f} GB on the worker's disk, and {free / 1e9:.1f} GB are free.",
            "Free space, then retry the job; or ask for a smaller dtype or quantization.",
        )
