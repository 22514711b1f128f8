"""llama.cpp, in a process of its own: it ends its process over a file that it dislikes. A script, not a module: it runs
with the tools' folder first on its path and imports nothing else of ours.

    native.py '{"do": "quantize", ...}'
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp_py_sync import _version
from llama_cpp_py_sync._cffi_bindings import get_ffi, get_lib

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quantize(asked: dict[str, Any]) -> dict[str, Any]:
    library = get_lib()
    library.llama_backend_init()
    how = get_ffi().new("llama_model_quantize_params *", library.llama_model_quantize_default_params())
    how.ftype = getattr(library, f"LLAMA_FTYPE_MOSTLY_{asked['type'].upper()}")
    how.nthread = THREADS
    code = library.llama_model_quantize(os.fsencode(asked["source"]), os.fsencode(asked["target"]), how)
    return {"code": int(code)}


def use(asked: dict[str, Any]) -> dict[str, Any]:
    """Reads the text as tokens, stores what the model says after each, and goes on greedily."""
    ffi, library = get_ffi(), get_lib()
    library.llama_backend_init()
    settings = library.llama_model_default_params()
    settings.n_gpu_layers = 0
    model = library.llama_model_load_from_file(os.fsencode(asked["model"]), settings)
    if model == ffi.NULL:
        return {"problem": "llama.cpp cannot load the file"}
    vocabulary = library.llama_model_get_vocab(model)
    size = library.llama_vocab_n_tokens(vocabulary)
    ids = tokens(ffi, library, vocabulary, asked["text"], asked["special"])
    room = library.llama_context_default_params()
    room.n_ctx = room.n_batch = room.n_ubatch = max(256, len(asked["ids"]) + asked["most"] + 8)
    room.n_threads = room.n_threads_batch = THREADS
    context = library.llama_init_from_model(model, room)
    if context == ffi.NULL:
        return {"problem": "llama.cpp cannot make a context of the model"}
    logits = said(ffi, library, context, asked["ids"], size)
    np.save(asked["logits"], logits)
    written: list[int] = []
    last = logits[-1]
    while len(written) < asked["most"]:
        best = int(last.argmax())
        if library.llama_vocab_is_eog(vocabulary, best):
            break
        written.append(best)
        token = ffi.new("llama_token[1]", [best])
        if library.llama_decode(context, library.llama_batch_get_one(token, 1)):
            return {"problem": "llama.cpp failed to go on with the text"}
        last = row(ffi, library.llama_get_logits_ith(context, -1), size)
    return {
        "ids": ids,
        "written": written,
        "answer": text_of(ffi, library, vocabulary, written),
        "version": f"llama.cpp {_version.__llama_cpp_tag__}",
    }


def tokens(ffi: Any, library: Any, vocabulary: Any, text: str, special: bool) -> list[int]:
    raw = text.encode()
    most = len(raw) + 16
    found = ffi.new("llama_token[]", most)
    count = library.llama_tokenize(vocabulary, raw, len(raw), found, most, special, True)
    return [found[n] for n in range(max(count, 0))]


def said(ffi: Any, library: Any, context: Any, ids: list[int], size: int) -> "np.ndarray[Any, Any]":
    batch = library.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for number, token in enumerate(ids):
        batch.token[number] = token
        batch.pos[number] = number
        batch.n_seq_id[number] = 1
        batch.seq_id[number][0] = 0
        batch.logits[number] = 1
    if library.llama_decode(context, batch):
        raise SystemExit("llama.cpp failed to read the prompt")
    found = np.stack([row(ffi, library.llama_get_logits_ith(context, n), size) for n in range(len(ids))])
    library.llama_batch_free(batch)
    return found


def row(ffi: Any, pointer: Any, size: int) -> "np.ndarray[Any, Any]":
    return np.frombuffer(ffi.buffer(pointer, size * 4), dtype=np.float32).copy()


def text_of(ffi: Any, library: Any, vocabulary: Any, ids: list[int]) -> str:
    buffer = ffi.new("char[]", 256 * (len(ids) + 1))
    count = library.llama_detokenize(vocabulary, ids, len(ids), buffer, len(buffer), False, False)
    return bytes(ffi.buffer(buffer, max(count, 0))).decode(errors="replace")


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    answer = {"quantize": quantize, "use": use}[order["do"]](order)
    Path(order["answer"]).write_text(json.dumps(answer))
