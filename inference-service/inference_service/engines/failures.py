"""From how an engine ended and what it said last to a reason and its cure."""

import re
from collections.abc import Iterable

from imts_shared.contracts.deployments import DeploymentReason
from inference_service.trouble import CannotServe

ROOM = "Give max_model_len or max_num_seqs a smaller value, take a smaller or quantized model, or stop another one."
_PREFIX = re.compile(r"^\(\w+ pid=\d+\)\s*|^(INFO|WARNING|ERROR) [\d-]+ [\d:]+ \[[^\]]*\]\s*")
_CHATTER = re.compile(r"^(?:\(\w+ pid=\d+\)\s*)?(?:INFO|WARNING|DEBUG)\b")
_ERROR = re.compile(r"^(?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt)\b: ?(.*)|^error: (.*)", re.IGNORECASE)
LORA_UNKNOWN = "does not support LoRA"
_UNKNOWN_MODEL = ("are not supported for now", "Model architectures", "Unsupported CPU attention configuration")


def explained(code: int, lines: Iterable[str], *, killed_for_memory: bool = False, served: bool = False) -> CannotServe:
    """`killed_for_memory`: the kernel has ended a process of this machine for want of memory meanwhile. `served`: it
    was ready before, so neither its arguments nor its files are to blame."""
    said = _causes(lines)
    text = "\n".join(said)
    words = _last_error(said)
    if killed_for_memory or _memory(text):
        return CannotServe(DeploymentReason.out_of_memory, f"The engine ran out of memory: {words}", ROOM)
    return (None if served else _mistake(code, said, text, words)) or CannotServe(
        DeploymentReason.engine_error,
        f"The engine {f'was ended by signal {-code}' if code < 0 else f'ended with code {code}'}: {words}",
        "The deployment's log has all of its lines.",
    )


def silent(why: str, lines: Iterable[str], *, served: bool) -> CannotServe:
    """It runs and does not generate. Before it ever did, the errors that it told of say more than what it answered."""
    said = _causes(lines)
    words = _last_error(said) if not served and any(_ERROR.match(line) for line in said) else why
    return (None if served else _mistake(0, said, "\n".join(said), words)) or CannotServe(
        DeploymentReason.unhealthy,
        f"The engine runs and does not generate: {words}",
        "The deployment's log has all of its lines.",
    )


def _causes(lines: Iterable[str]) -> list[str]:
    return [_PREFIX.sub("", _PREFIX.sub("", line)).strip() for line in lines if not _CHATTER.search(line)]


def _mistake(code: int, said: list[str], text: str, words: str) -> CannotServe | None:
    if code == 2 and "error: " in text:
        return CannotServe(
            DeploymentReason.bad_arguments, f"The engine refuses its arguments: {words}", "Change engineArgs."
        )
    if "Address already in use" in text or "couldn't bind HTTP server" in text or "address already in use" in text:
        return CannotServe(
            DeploymentReason.port_taken,
            "Another program listens on the engine's port.",
            "Name another port, or leave it out and any free one is taken.",
        )
    if "larger than the available KV cache memory" in text or "No available memory for the cache blocks" in text:
        return CannotServe(DeploymentReason.no_room, f"The engine's cache is too small: {words}", ROOM, final=True)
    if "SafetensorError" in text or "MetadataIncompleteBuffer" in text or "gguf_init_from_file" in text:
        return CannotServe(
            DeploymentReason.bad_model, f"The model's weights are damaged: {words}", "Bring the model's files again."
        )
    if "trust_remote_code=True" in text:
        return CannotServe(
            DeploymentReason.bad_model,
            "This model brings its own code, which is not run unless an admin has allowed it.",
            "An admin sets trustRemoteCode by PATCH /api/models/{id}.",
        )
    if any(mark in text for mark in _UNKNOWN_MODEL):
        return CannotServe(DeploymentReason.bad_model, f"The engine cannot serve this model: {words}")
    if _arguments(said):
        return CannotServe(
            DeploymentReason.bad_arguments, f"The engine refuses its arguments: {words}", "Change engineArgs."
        )
    return None


def _memory(text: str) -> bool:
    marks = ("OutOfMemoryError", "out of memory", "can't allocate memory", "Not enough memory", "MemoryError")
    return any(mark in text for mark in marks) or "DefaultCPUAllocator" in text


def _arguments(said: list[str]) -> bool:
    """vLLM checks what its options mean together in classes of its own, before anything is loaded."""
    return any("validation error for" in line and "Config" in line for line in said)


def _last_error(said: list[str]) -> str:
    """The first error is the cause; later ones are of those who waited for it. Of a validation, what it says below."""
    for number, line in enumerate(said):
        if "validation error" in line:
            below = " ".join(said[number + 1 : number + 3])
            return f"{line.partition(': ')[2] or line} {below}"[:1_000].strip()
        found = _ERROR.match(line)
        if found and not line.startswith("RuntimeError: Engine core initialization failed"):
            return line[:1_000]
    last = next((line for line in reversed(said) if line), None)
    return f"the last that it said was: {last}"[:1_000] if last else "it said nothing"
