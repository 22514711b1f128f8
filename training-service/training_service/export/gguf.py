"""From a folder of safetensors to one GGUF file, by llama.cpp's own converter and quantizer."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

from imts_shared.contracts.jobs import ExportRequest
from imts_shared.worker.engine import BadConfig, EngineFailure, EngineJob
from training_service.export import children
from training_service.export.merge import Stepping, Whole

DIRECT = ("f32", "f16", "bf16", "q8_0")
"""What the converter writes itself; everything else is quantized from f16."""
NATIVE = Path(__file__).with_name("native.py")
INSTALL = (
    "Install them with `uv pip install --no-deps --require-hashes --target {folder} -r locks/gguf-tools.txt`,"
    " or let `./imts up` install training anew."
)


def two_steps(quantization: str | None) -> bool:
    return (quantization or "q8_0") not in DIRECT


def converter() -> Path:
    return children.tools() / "convert_hf_to_gguf.py"


def has_llama_cpp() -> bool:
    return (children.tools() / "xllamacpp").is_dir()


def has_quantizer() -> bool:
    """llama-cpp-python has no wheels, so that whoever wants its quantizer builds it; the program does as well."""
    bound = (children.tools() / "llama_cpp").is_dir() or importlib.util.find_spec("llama_cpp") is not None
    return bound or shutil.which("llama-quantize") is not None


def check_tools(quantization: str) -> None:
    if not converter().is_file():
        raise BadConfig(
            "The tools that write GGUF are not installed on this worker.", INSTALL.format(folder=children.tools())
        )
    if two_steps(quantization) and not has_quantizer():
        raise BadConfig(
            f"{quantization} needs llama.cpp's quantizer, and this worker has none.",
            "Put llama.cpp's llama-quantize on the worker's PATH, or install llama-cpp-python into its environment;"
            " or ask for q8_0 or f16, which need neither.",
        )


def write(job: EngineJob, whole: Whole, asked: ExportRequest, target: Path, steps: Stepping) -> None:
    quantization = asked.quantization or "q8_0"
    if not two_steps(quantization):
        steps.begin(f"Converting to GGUF ({quantization}).")
        _convert(job, whole, target, quantization, asked)
        return
    between = job.scratch / "between.gguf"
    steps.begin("Converting to GGUF (f16).")
    _convert(job, whole, between, "f16", asked)
    steps.begin(f"Quantizing to {quantization}.")
    _quantize(job, between, target, quantization)
    between.unlink()


def _convert(job: EngineJob, whole: Whole, target: Path, kind: str, asked: ExportRequest) -> None:
    name = asked.output_name or asked.model_name
    command: list[str | Path] = [
        sys.executable, converter(), "--outtype", kind, "--outfile", target, "--model-name", name, whole.folder,
    ]  # fmt: skip
    ended = children.run(job, command, "convert")
    if ended.code == 0 and target.is_file():
        return
    if ended.has("is not supported") or ended.has("not supported!"):
        raise BadConfig(
            f"GGUF has no form for this architecture: {whole.architecture}.", "Export it as merged, and serve that."
        )
    if ended.has("pre-tokenizer was not recognized"):
        raise BadConfig(
            "The converter does not know how this model's tokenizer parts text, and a wrong guess would spoil it.",
            "Was the tokenizer changed? Its base model's own converts. Or export the model as merged.",
        )
    raise EngineFailure(f"Converting to GGUF failed: {ended.last}", "The converter's last lines are in the job's log.")


def _quantize(job: EngineJob, source: Path, target: Path, kind: str) -> None:
    program = shutil.which("llama-quantize")
    if program is not None:
        tried = children.run(job, [program, source, target, kind.upper()], "quantize")
        if tried.code == 0 and target.is_file():
            return
    else:
        answer = job.scratch / "quantized.json"
        order = {"do": "quantize", "type": kind, "source": str(source), "target": str(target), "answer": str(answer)}
        tried = children.run(job, [sys.executable, "-P", NATIVE, json.dumps(order)], "quantize")
        if tried.code == 0 and json.loads(answer.read_text())["code"] == 0 and target.is_file():
            return
    raise EngineFailure(f"Quantizing to {kind} failed: {tried.last}", "Ask for q8_0, or look at the job's log.")
