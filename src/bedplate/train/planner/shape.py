"""The shape of a decoder-only transformer: its parameters and the floating-point operations of a token.

Does not know: how it is computed (`layout`), or on what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from bedplate.core.errors import SpecError


@dataclass(frozen=True)
class Shape:
    """A decoder-only transformer. Biases are left out: they are less than a thousandth.

    `hidden` is the width of the residual stream, `head` that of one attention head, `ffn` the inner width of one feed-forward block (of
    one expert); `gated` blocks have three matrices (SwiGLU), others two. With `tied`, input and output embeddings are one matrix.
    `positions` is the length of a learned table of positions, 0 for none. Of `experts` each token uses `experts_per_token`.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    head: int = 0
    gated: bool = True
    tied: bool = False
    positions: int = 0
    experts: int = 1
    experts_per_token: int = 1

    def __post_init__(self) -> None:
        """Raises SpecError for what is no model."""
        for name in ("layers", "hidden", "heads", "kv_heads", "ffn", "vocab", "experts", "experts_per_token"):
            if getattr(self, name) < 1:
                raise SpecError("a model's shape needs whole numbers from 1 on", value={name: getattr(self, name)})
        if self.heads % self.kv_heads:
            raise SpecError("heads must be a multiple of kv_heads", value={"heads": self.heads, "kv_heads": self.kv_heads})
        if not self.head:
            object.__setattr__(self, "head", self.hidden // self.heads)

    @property
    def q_width(self) -> int:
        """The width of all queries together."""
        return self.heads * self.head

    @property
    def kv_width(self) -> int:
        """The width of all keys together, and of all values."""
        return self.kv_heads * self.head

    @cached_property
    def attention_parameters(self) -> int:
        """The parameters of the four projections of one layer."""
        return self.hidden * (2 * self.q_width + 2 * self.kv_width)

    @cached_property
    def expert_parameters(self) -> int:
        """The parameters of one feed-forward block (one expert)."""
        return (3 if self.gated else 2) * self.hidden * self.ffn

    @cached_property
    def layer_parameters(self) -> int:
        """All parameters of one layer, with its experts, router and two norms."""
        router = self.hidden * self.experts if self.experts > 1 else 0
        return self.attention_parameters + self.experts * self.expert_parameters + router + 2 * self.hidden

    @cached_property
    def active_layer_parameters(self) -> int:
        """The parameters of one layer by which a token is multiplied."""
        router = self.hidden * self.experts if self.experts > 1 else 0
        return self.attention_parameters + self.experts_per_token * self.expert_parameters + router

    @property
    def embedding_parameters(self) -> int:
        """The parameters of the input embedding, with learned positions."""
        return (self.vocab + self.positions) * self.hidden

    @property
    def output_parameters(self) -> int:
        """The parameters of the output projection, whether or not they are those of the input embedding."""
        return self.vocab * self.hidden

    @cached_property
    def parameters(self) -> int:
        """All parameters."""
        output = 0 if self.tied else self.output_parameters
        return self.layers * self.layer_parameters + self.embedding_parameters + output + self.hidden

    @cached_property
    def matrix_parameters(self) -> int:
        """The parameters by which each token is multiplied: active layers and the output projection, not the lookup of the input."""
        return self.layers * self.active_layer_parameters + self.output_parameters

    def attention_flops(self, sequence: int, *, causal: bool = True) -> float:
        """FLOP of the attention scores and their products with the values, forward, for one token at `sequence` tokens.

        4 s q for all pairs; a causal mask leaves half. Llama 3 (2024) and MegaScale count half, Narayanan et al. 2021 and MosaicML all.
        """
        return self.layers * 4.0 * sequence * self.q_width * (0.5 if causal else 1.0)

    def train_flops(self, sequence: int, *, causal: bool = True) -> float:
        """FLOP of forward and backward for one token, without recomputation: 6 N + 3 x attention (PaLM 2022, appendix B)."""
        return 6.0 * self.matrix_parameters + 3.0 * self.attention_flops(sequence, causal=causal)

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return {**asdict(self), "parameters": self.parameters}


def from_config(config: Mapping[str, Any], name: str = "model") -> Shape:
    """The shape that a `config.json` of Hugging Face transformers tells, in the names of Llama, Mistral, Qwen, Mixtral, GPT-2 and GPT-NeoX.

    Also takes the fields of `Shape` themselves. Raises SpecError for a missing one.
    """

    def pick(*keys: str, default: Any = None) -> Any:
        for key in keys:
            if config.get(key) is not None:
                return config[key]
        if default is None:
            raise SpecError(f"the model's configuration has no `{keys[0]}`", value=sorted(config), fix="give a config.json of transformers")
        return default

    hidden = int(pick("hidden", "hidden_size", "n_embd", "d_model"))
    heads = int(pick("heads", "num_attention_heads", "n_head", "n_heads"))
    experts = int(pick("experts", "num_local_experts", "num_experts", "n_routed_experts", default=1))
    plain_ffn = config.get("model_type") in ("gpt2", "gpt_neox", "mpt", "opt", "gptj", "bloom", "falcon")
    ffn_keys = ("moe_intermediate_size",) if experts > 1 else ()
    return Shape(
        name=str(config.get("name") or config.get("_name_or_path") or name),
        layers=int(pick("layers", "num_hidden_layers", "n_layer", "n_layers")),
        hidden=hidden,
        heads=heads,
        kv_heads=int(pick("kv_heads", "num_key_value_heads", default=heads)),
        ffn=int(pick(*ffn_keys, "ffn", "intermediate_size", "n_inner", "ffn_dim", default=4 * hidden)),
        vocab=int(pick("vocab", "vocab_size")),
        head=int(pick("head", "head_dim", default=hidden // heads)),
        gated=bool(config.get("gated", not plain_ffn)),
        tied=bool(config.get("tied", config.get("tie_word_embeddings", False))),
        positions=int(config.get("positions", config.get("n_positions", 0) if config.get("model_type") == "gpt2" else 0)),
        experts=experts,
        experts_per_token=int(pick("experts_per_token", "num_experts_per_tok", "top_k", default=1)),
    )
