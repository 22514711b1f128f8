"""llama.cpp, in a process of its own: it ends its process over a file that it dislikes. A script, not a module: it runs
with the tools' folder first on its path and imports nothing else of ours.

    native.py '{"do": "use", ...}'
"""

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quantize(asked: dict[str, Any]) -> dict[str, Any]:
    import llama_cpp

    how = llama_cpp.llama_model_quantize_default_params()
    how.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{asked['type'].upper()}")
    how.nthread = THREADS
    source, target = os.fsencode(asked["source"]), os.fsencode(asked["target"])
    return {"code": int(llama_cpp.llama_model_quantize(source, target, ctypes.byref(how)))}


def use(asked: dict[str, Any]) -> dict[str, Any]:
    """What the model would say next after each beginning of the prompt, and how it goes on greedily."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = asked["model"]
    settings.n_ctx = max(256, len(asked["ids"]) + asked["most"] + 16)
    settings.n_parallel = 1
    settings.n_gpu_layers = 0
    settings.cpuparams.n_threads = THREADS
    server = xllamacpp.Server(settings)
    greedy = {"temperature": 0, "n_probs": asked["probabilities"], "cache_prompt": True}
    next_ones = []
    for place in asked["places"]:
        told = server.handle_completions({**greedy, "prompt": asked["ids"][: place + 1], "n_predict": 1})
        next_ones.append({one["id"]: one["logprob"] for one in first_token(told)["top_logprobs"]})
    told = server.handle_completions({"temperature": 0, "prompt": asked["text"], "n_predict": asked["most"]})
    return {
        "next": next_ones,
        "answer": told["choices"][0]["text"],
        "answerTokens": told["usage"]["completion_tokens"],
        "promptTokens": told["usage"]["prompt_tokens"],
        "version": f"llama.cpp (xllamacpp {xllamacpp.__version__})",
    }


def first_token(told: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = told["choices"][0]["logprobs"]["content"][0]
    return found


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    answer = {"quantize": quantize, "use": use}[order["do"]](order)
    Path(order["answer"]).write_text(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)  # its server's threads have nothing more to do
