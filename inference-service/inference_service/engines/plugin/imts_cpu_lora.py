"""vLLM's plugin that mends adapters on the CPU; vLLM finds it by its entry point, for the worker puts this folder on
the engine's path. Only for engines that do not compile: what it does depends on the batch's content.

vLLM 0.32 copies an adapter's weights for every token of a batch, of requests without an adapter too: an engine that may
have adapters generates 3 times slower than one that may not, though none is loaded. And it counts "no adapter" as the
last slot: when all slots are in use, requests to the base model get the last adapter. Here the rows of each adapter
are multiplied with it together, and rows without one are left alone; a batch without any goes straight through the
layers that an engine without adapters has.
"""

from typing import Any

Group = tuple[int, Any]
"""An adapter's slot, and the rows of the batch that are its own; None: all of them."""


def register() -> None:
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    replaced = PunicaWrapperCPU.update_metadata

    def update_metadata(self: Any, *given: Any, **named: Any) -> None:
        replaced(self, *given, **named)
        self.imts_tokens = groups(self.token_lora_indices)
        self.imts_samples = groups(self.sampler_indices)

    PunicaWrapperCPU.imts_tokens = PunicaWrapperCPU.imts_samples = []
    PunicaWrapperCPU.update_metadata = update_metadata
    PunicaWrapperCPU.add_lora_linear = add_lora_linear
    PunicaWrapperCPU.add_lora_embedding = add_lora_embedding
    PunicaWrapperCPU.add_lora_logits = add_lora_logits
    pass_straight_through()


def pass_straight_through() -> None:
    from vllm.lora import layers

    for kind in (
        layers.ColumnParallelLinearWithLoRA,
        layers.RowParallelLinearWithLoRA,
        layers.ReplicatedLinearWithLoRA,
        layers.VocabParallelEmbeddingWithLoRA,
    ):
        kind.forward = straight(kind.forward)
    kind = layers.LogitsProcessorWithLoRA
    kind._get_logits = straight_logits(kind._get_logits)


def straight(forward: Any) -> Any:
    def with_adapters_or_without(self: Any, x: Any) -> Any:
        return forward(self, x) if self.punica_wrapper.imts_tokens else self.base_layer(x)

    return with_adapters_or_without


def straight_logits(get_logits: Any) -> Any:
    def with_adapters_or_without(self: Any, hidden_states: Any, lm_head: Any, *more: Any, **named: Any) -> Any:
        if self.punica_wrapper.imts_samples:
            return get_logits(self, hidden_states, lm_head, *more, **named)
        return self.base_layer._get_logits(hidden_states, getattr(lm_head, "base_layer", lm_head), *more, **named)

    return with_adapters_or_without


def groups(indices: Any) -> list[Group]:
    slots = indices.unique().tolist()
    if len(slots) == 1:
        return [(slots[0], None)] if slots[0] >= 0 else []
    return [(slot, (indices == slot).nonzero().flatten()) for slot in slots if slot >= 0]


def add_lora_linear(
    self: Any, y: Any, x: Any, lora_a_stacked: Any, lora_b_stacked: Any, scale: float, output_slices: Any, **_: Any
) -> None:
    rows_of_x, rows_of_y = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
    for slot, rows in self.imts_tokens:
        mine = rows_of_x if rows is None else rows_of_x[rows]
        begin = 0
        for a, b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
            add(rows_of_y, rows, mine @ matrix(a, slot).T, matrix(b, slot), scale, begin)
            begin += width


def add_lora_embedding(self: Any, y: Any, x: Any, lora_b_stacked: Any, add_inputs: bool = True, **_: Any) -> None:
    """`x` went through the adapter's first matrix already."""
    assert add_inputs
    for slot, rows in self.imts_tokens:
        add(y, rows, x if rows is None else x[rows], matrix(lora_b_stacked, slot), 1.0, 0)


def add_lora_logits(
    self: Any, y: Any, x: Any, lora_a_stacked: Any, lora_b_stacked: Any, scale: float, **_: Any
) -> None:
    rows_of_x, rows_of_y = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
    for slot, rows in self.imts_samples:
        mine = rows_of_x if rows is None else rows_of_x[rows]
        add(rows_of_y, rows, mine @ matrix(lora_a_stacked, slot).T, matrix(lora_b_stacked, slot), scale, 0)


def matrix(stacked: Any, slot: int) -> Any:
    return stacked[slot].squeeze(0) if stacked.dim() == 4 else stacked[slot]


def add(y: Any, rows: Any, inner: Any, b: Any, scale: float, begin: int) -> None:
    more = (inner.to(b.dtype) @ b.T) * scale
    width = min(more.shape[1], y.shape[1] - begin)
    if rows is None:
        y[: more.shape[0], begin : begin + width] += more[:, :width]
    else:
        y[rows, begin : begin + width] += more[:, :width].to(y.dtype)
