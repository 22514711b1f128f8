"""Models loaded and used beside an attempt, in a process of its own: threads that torch starts here would not outlive
the fork of the next attempt."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def apart(function: str, *arguments: Any) -> Any:
    asked = [sys.executable, __file__, function, *(str(argument) for argument in arguments)]
    ended = subprocess.run(asked, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def difference(base: str, adapter: str, whole: str, prompt: str) -> float:
    """The largest between the logits of a base with its adapter and a whole model's."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(whole)(prompt, return_tensors="pt")["input_ids"]
    both = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(whole).eval()(ids).logits
        return float((both(ids).logits - logits).abs().max())


def answer(tokenizer: str, file: str, question: str) -> str:
    """Of a GGUF file, loaded by transformers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    reads = AutoTokenizer.from_pretrained(tokenizer)
    given = reads.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt"
    )
    model = AutoModelForCausalLM.from_pretrained(Path(file).parent, gguf_file=Path(file).name).eval()
    said = model.generate(given, max_new_tokens=8, do_sample=False, pad_token_id=2)[0, given.shape[1] :]
    return str(reads.decode(said, skip_special_tokens=True))


def made(models: str, name: str) -> str:
    from training_service.models import builtin

    return str(builtin.folder(Path(models), name))


def talk(folder: str, text: str, question: str) -> list[Any]:
    """The text's tokens, the text that they stand for, the token that ends an answer, and a greedy answer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    reads = AutoTokenizer.from_pretrained(folder)
    ids = reads(text)["input_ids"]
    asked = [{"role": "user", "content": question}]
    given = reads.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    said = model.generate(given, max_new_tokens=16, do_sample=False)[0, given.shape[1] :]
    return [ids, reads.decode(ids), reads.eos_token, reads.decode(said, skip_special_tokens=True)]


def threads_beside_others() -> list[int]:
    """How many it takes with a busy process for every core, and within a minute of their end."""
    import torch

    from training_service.cores import Cores

    there = os.cpu_count() or 1
    torch.set_num_threads(there)
    cores = Cores()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(there)]
    beside = _looked_at(cores, lambda threads: threads == 1)
    for one in busy:
        one.kill()
        one.wait()
    return [beside, _looked_at(cores, lambda threads: threads > beside)]


def _looked_at(cores: Any, enough: Callable[[int], bool]) -> int:
    import torch

    deadline = time.monotonic() + 60
    while not enough(torch.get_num_threads()) and time.monotonic() < deadline:
        time.sleep(0.5)
        cores.share()
    return int(torch.get_num_threads())


if __name__ == "__main__":
    _, chosen, *given = sys.argv
    known = {one.__name__: one for one in (difference, answer, made, talk, threads_beside_others)}
    print(json.dumps(known[chosen](*given)))
