"""What is wrong with weights, told from their headers in milliseconds and not by an engine after a minute."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imts_shared.contracts.deployments import DeploymentReason
from inference_service.trouble import CannotServe, bad_model

LARGEST_HEADER = 100 * 2**20
AGAIN = "Bring the model's files again."
GGUF_MAGIC = b"GGUF"


def check_model(folder: Path, named: str) -> None:
    """Of a folder as Hugging Face lays it out."""
    config = _object(folder / "config.json", named)
    if not config.get("architectures") and not config.get("model_type"):
        raise bad_model(f"{named}: config.json names no architecture.", "It is not a model that can be served.")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise bad_model(f"{named} holds no *.safetensors weights.", "Convert the weights to safetensors.")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        wanted = _object(index, named).get("weight_map")
        names = set(wanted.values()) if isinstance(wanted, dict) else set()
        missing = sorted(name for name in names if not (folder / str(name)).is_file())
        if missing:
            raise bad_model(f"{named} lacks {missing[0]} ({len(missing)} of {len(names)} weight files).", AGAIN)
    for file in files:
        tensors(file)


def check_gguf(file: Path, named: str) -> None:
    with file.open("rb") as opened:
        if opened.read(4) != GGUF_MAGIC:
            raise bad_model(f"{named}: {file.name} is not a GGUF file.", AGAIN)


def tensors(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes; what is said of the file's length must be so."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        head = opened.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else LARGEST_HEADER + 1
        if length > LARGEST_HEADER or 8 + length > size:
            raise bad_model(f"{file.name} is cut short or no safetensors file: {size} bytes are there.", AGAIN)
        try:
            header: Any = json.loads(opened.read(length))
        except ValueError as error:
            raise bad_model(f"{file.name} is damaged: its header is not JSON.", AGAIN) from error
    try:
        found = {name: tuple(one["shape"]) for name, one in header.items() if name != "__metadata__"}
        last = max((one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"), default=0)
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise bad_model(f"{file.name} is damaged: its header is not one of safetensors.", AGAIN) from error
    if size != 8 + length + last:
        what = "is cut short" if size < 8 + length + last else "has bytes too many"
        raise bad_model(f"{file.name} {what}: {size} bytes are there, {8 + length + last} should be.", AGAIN)
    return found


def adapter_rank(folder: Path) -> int:
    rank = _object(folder / "adapter_config.json", folder.name).get("r")
    if not isinstance(rank, int) or rank < 1:
        raise bad_adapter("its adapter_config.json names no rank")
    return rank


def check_adapter(folder: Path, base: Path, largest_rank: int) -> None:
    """An engine that is given an adapter of another base may fail as a whole, so it is not asked."""
    config = _object(folder / "adapter_config.json", folder.name)
    if config.get("peft_type", "LORA") != "LORA":
        raise bad_adapter(f"it is no LoRA but {config.get('peft_type')}")
    rank = max([adapter_rank(folder), *_ranks(config)])
    if rank > largest_rank:
        raise bad_adapter(
            f"its rank is {rank} and the running engine takes {largest_rank} at most: deploy with"
            f" engineArgs max_lora_rank {rank} or more"
        )
    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        raise bad_adapter("it holds no adapter_model.safetensors")
    shapes = tensors(file)
    if not shapes:
        raise bad_adapter("it holds no weights")
    if _object(base / "config.json", base.name).get("quantization_config"):
        return
    of_base: dict[str, tuple[int, ...]] = {}
    for one in base.glob("*.safetensors"):
        of_base |= tensors(one)
    for name, shape in shapes.items():
        _compare(name, shape, of_base)


def _compare(name: str, shape: tuple[int, ...], base: Mapping[str, tuple[int, ...]]) -> None:
    for mark, own, theirs in ((".lora_A.weight", 1, 1), (".lora_B.weight", 0, 0)):
        if not name.endswith(mark) or len(shape) != 2:
            continue
        module = name.removeprefix("base_model.model.").removesuffix(mark)
        of_base = base.get(f"{module}.weight")
        if of_base is None and not module.endswith(("lm_head", "embed_tokens")):
            raise bad_adapter(f"it changes {module}, which this base does not have: it is of another base")
        if of_base is not None and len(of_base) == 2 and of_base[theirs] != shape[own]:
            raise bad_adapter(
                f"its {module} is made for {shape[own]} values and this base has {of_base[theirs]}:"
                " it is of another base"
            )


def _ranks(config: Mapping[str, Any]) -> list[int]:
    pattern = config.get("rank_pattern")
    return [rank for rank in pattern.values() if isinstance(rank, int)] if isinstance(pattern, dict) else []


def bad_adapter(why: str) -> CannotServe:
    return CannotServe(DeploymentReason.bad_adapter, f"The adapter cannot be loaded: {why}.")


def _object(path: Path, named: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise bad_model(f"{named} holds no {path.name}.", "Name the folder that has one.") from error
    except (OSError, ValueError) as error:
        raise bad_model(f"{named}: {path.name} cannot be read: {error}.", AGAIN) from error
    if not isinstance(found, dict):
        raise bad_model(f"{named}: {path.name} holds no JSON object.", AGAIN)
    return found
