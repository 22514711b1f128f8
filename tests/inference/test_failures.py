"""From an engine's end to a reason; the lines are those that vLLM and llama.cpp really say."""

import pytest

from inference_service.engines.failures import explained, silent
from inference_service.engines.progress import told

CORE = "(EngineCore pid=16980) ERROR 11-21 14:24:44 [core.py:1100] "


CACHE = (
    "ValueError: To serve at least one request, 6.00 GiB KV cache is needed, which is larger than the available KV"
    " cache memory (1.0 GiB)."
)
VALIDATION = "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig"
LENGTH = "  Value error, User-specified max_model_len (900000) is greater than 8192"
DAMAGED = "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer"
ALLOCATOR = "RuntimeError: [enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"
FOLLOWS = "RuntimeError: Engine core initialization failed. See root cause above."
ARGPARSE = "api_server.py: error: argument --x: invalid int value: 'y'"


@pytest.mark.parametrize(
    ("code", "lines", "reason", "words", "final"),
    [
        (2, ["usage: api_server.py", ARGPARSE], "bad_arguments", "invalid int", True),
        (1, ["OSError: [Errno 98] Address already in use"], "port_taken", "port", True),
        (1, ["couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 80"], "port_taken", "port", True),
        (
            1,
            [CORE + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"],
            "out_of_memory",
            "2 GiB",
            False,
        ),
        (-9, [ALLOCATOR], "out_of_memory", "allocate", False),
        (1, [CORE + CACHE], "no_room", "6.00 GiB", True),
        (1, [VALIDATION, LENGTH], "bad_arguments", "8192", True),
        (1, [CORE + DAMAGED], "bad_model", "damaged", True),
        (1, ["ValueError: Model architectures ['Weird'] are not supported for now."], "bad_model", "Weird", True),
        (-11, ["all is well"], "engine_error", "signal 11: the last that it said was: all is well", False),
        (1, [CORE + "ValueError: first", FOLLOWS], "engine_error", "ValueError: first", False),
        (1, [], "engine_error", "it said nothing", False),
    ],
)
def test_reasons(code: int, lines: list[str], reason: str, words: str, final: bool) -> None:
    found = explained(code, lines)
    assert (found.reason, found.final) == (reason, final)
    assert words in found.message


def test_an_engine_that_only_answers_errors_is_asked_for_its_own() -> None:
    attention = "RuntimeError: Unsupported CPU attention configuration: head_dim=16 isa=2 kv_cache_idx=0"
    answered = "a generation of one token was answered 500: EngineCore encountered an issue."
    found = silent(answered, ["bye", f"(Worker pid=26892) ERROR 11-21 17:39:36 [core.py:1] {attention}"], served=False)
    assert (found.reason, found.final) == ("bad_model", True)
    assert "head_dim=16" in found.message
    found = silent(answered, ["bye"], served=False)
    assert (found.reason, found.final) == ("unhealthy", False)
    assert answered in found.message
    earlier = "ERROR 11-21 17:39:36 [core.py:1] ValueError: odd"
    assert silent(answered, [earlier], served=True).message == f"The engine runs and does not generate: {answered}"
    assert "ValueError: odd" in silent(answered, [earlier], served=False).message


def test_a_process_that_the_kernel_ended_for_memory() -> None:
    assert explained(-9, ["loading"], killed_for_memory=True).reason == "out_of_memory"
    assert explained(-9, ["loading"]).reason == "engine_error"


def test_what_was_said_in_passing_is_no_cause() -> None:
    chatter = ["(EngineCore pid=1) INFO 11-21 14:24:44 [core.py:133] trust_remote_code=True, out of memory", "bye"]
    assert explained(1, chatter).message == "The engine ended with code 1: the last that it said was: bye"


def test_an_engine_that_served_fell_by_no_mistake_of_its_user() -> None:
    lines = [CORE + "safetensors_rust.SafetensorError: MetadataIncompleteBuffer"]
    assert explained(1, lines).final
    found = explained(1, lines, served=True)
    assert (found.reason, found.final) == ("engine_error", False)


@pytest.mark.parametrize(
    ("line", "phase", "percent"),
    [
        ("Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:00<00:00]", "loading weights", 50.0),
        (CORE + "Starting to load model /m", "loading weights", None),
        ("INFO:     Application startup complete.", "warming up", None),
        ("main: server is listening on http://127.0.0.1:1", "warming up", None),
        ("nothing of note", None, None),
    ],
)
def test_progress(line: str, phase: str | None, percent: float | None) -> None:
    found = told(line)
    assert (found.phase if found else None, found.percent if found else None) == (phase, percent)
