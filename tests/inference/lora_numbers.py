"""Run in the engine's environment with the worker's plugin: adapters in one batch, against the plain definition."""

import torch
from vllm.lora.layers import LoRAMapping
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.plugins import load_general_plugins

load_general_plugins()
SLOTS, RANK, IN, OUT = 2, 3, 5, (4, 2)


def check(ids: list[int], *, prefill: bool) -> None:
    torch.manual_seed(len(ids))
    wrapper = PunicaWrapperCPU(64, 64, "cpu")
    tokens = tuple(ids)
    wrapper.update_metadata(LoRAMapping(tokens, tokens, is_prefill=prefill), [7, 9], SLOTS, 100)
    a = tuple(torch.randn(SLOTS, 1, RANK, IN) for _ in OUT)
    b = tuple(torch.randn(SLOTS, 1, width, RANK) for width in OUT)
    x, y = torch.randn(len(ids), IN), torch.randn(len(ids), sum(OUT))
    wanted = y.clone()
    for row, identity in enumerate(ids):
        if identity:
            slot = [7, 9].index(identity)
            parts = [x[row] @ one[slot, 0].T @ two[slot, 0].T * 0.5 for one, two in zip(a, b, strict=True)]
            wanted[row] += torch.cat(parts)
    wrapper.add_lora_linear(y, x, a, b, 0.5, OUT)
    assert torch.allclose(y, wanted, atol=1e-5), (ids, prefill)
    logits, expected = torch.zeros(len(ids), OUT[0]), torch.zeros(len(ids), OUT[0])
    for row, identity in enumerate(ids):
        if identity:
            slot = [7, 9].index(identity)
            expected[row] = x[row] @ a[0][slot, 0].T @ b[0][slot, 0].T
    wrapper.add_lora_logits(logits, x, a[0], b[0], 1.0)
    assert torch.allclose(logits, expected, atol=1e-5), (ids, prefill)


for prefill in (True, False):
    for ids in ([0, 0, 0], [7, 7, 7], [9], [0, 9, 0, 7], [7, 7, 9, 9, 0]):
        check(ids, prefill=prefill)
print("right")
