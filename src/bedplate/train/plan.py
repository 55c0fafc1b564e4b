"""A plan: how a model may be cut into tensors and stages. A model names its own; those of the Llama family are known here.

A plan is data about module names, and one function that runs a part of the model. Does not know: meshes, or how a cut is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import nn

from bedplate.core.errors import JobError

Style = Literal["embedding", "column", "row", "head", "head_norm"]
"""How a module is shared among tensor ranks.

`embedding`: rows of the table; `column`: outputs of a linear layer, whose results stay apart; `row`: its inputs, whose results are summed;
`head`: outputs, brought together; `head_norm`: weights whole, applied to each rank's attention heads (dimension 2 of the input).
"""

PartForward = Callable[[nn.Module, torch.Tensor, bool, bool], torch.Tensor]


def as_it_is(output: torch.Tensor) -> Any:
    """The answer of a model that returns its last tensor."""
    return output


@dataclass(frozen=True)
class Plan:
    """What a model says of itself.

    `blocks` is the dotted name of the ModuleList of repeated blocks. `first` and `last` are modules that only the first and the last stage
    have. `forward(part, inputs, is_first, is_last)` runs the part of the model that is there: on the model's own argument when it is the
    first, and up to its last tensor when it is the last. `answer` makes of that what the whole model returns. `tensor` maps dotted names
    (`*` for the number of a block) to styles; a module that it does not name is kept whole by every tensor rank. `divided` names the
    numbers that the tensor ranks must divide.
    """

    blocks: str
    first: tuple[str, ...]
    last: tuple[str, ...]
    forward: PartForward
    answer: Callable[[torch.Tensor], Any] = as_it_is
    tensor: Mapping[str, Style] = field(default_factory=dict)
    divided: Mapping[str, int] = field(default_factory=dict)


@runtime_checkable
class Parallelizable(Protocol):
    """A model that names its plan."""

    def parallel_plan(self) -> Plan:
        """How it may be cut."""


def plan_of(model: nn.Module) -> Plan:
    """The model's own plan, or the one known for its class. Raises JobError where there is none."""
    if isinstance(model, Parallelizable):
        return model.parallel_plan()
    kind = type(model)
    if kind.__module__.startswith("transformers.models.") and kind.__name__ in LLAMA_FAMILY:
        return llama_plan(model)
    fix = f"give {kind.__name__} a method parallel_plan(), or use the axes `data` and `shard`, which take any module"
    raise JobError("this model has no plan for tensor or pipeline parallelism", value=kind.__name__, fix=fix)


LLAMA_FAMILY = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")

LLAMA_TENSOR: Mapping[str, Style] = {
    "model.embed_tokens": "embedding",
    "model.layers.*.self_attn.q_proj": "column",
    "model.layers.*.self_attn.k_proj": "column",
    "model.layers.*.self_attn.v_proj": "column",
    "model.layers.*.self_attn.q_norm": "head_norm",
    "model.layers.*.self_attn.k_norm": "head_norm",
    "model.layers.*.self_attn.o_proj": "row",
    "model.layers.*.mlp.gate_proj": "column",
    "model.layers.*.mlp.up_proj": "column",
    "model.layers.*.mlp.down_proj": "row",
    "lm_head": "head",
}


def llama_plan(model: nn.Module) -> Plan:
    """The plan of a Llama, Mistral, Qwen2 or Qwen3 of `transformers`, from its config. Raises JobError for layers of several kinds."""
    config: Any = model.config
    kinds = set(getattr(config, "layer_types", None) or ())
    if len(kinds) > 1:
        raise JobError("layers of several kinds of attention cannot be cut yet", value=sorted(kinds), fix="use the axes `data` and `shard`")
    divided = {
        "attention heads": config.num_attention_heads,
        "key-value heads": config.num_key_value_heads,
        "width of the feed-forward layers": config.intermediate_size,
        "vocabulary": config.vocab_size,
    }
    return Plan("model.layers", ("model.embed_tokens",), ("model.norm", "lm_head"), _llama_forward, _llama_answer, LLAMA_TENSOR, divided)


def _llama_forward(part: Any, inputs: torch.Tensor, is_first: bool, is_last: bool) -> torch.Tensor:
    """The library's own forward over the layers that are there; a stage without the final norm has an identity in its place."""
    given = {"input_ids": inputs} if is_first else {"inputs_embeds": inputs}
    hidden: torch.Tensor = part.model(**given, use_cache=False).last_hidden_state
    return part.lm_head(hidden) if is_last else hidden


def _llama_answer(logits: torch.Tensor) -> Any:
    return SimpleNamespace(logits=logits)
