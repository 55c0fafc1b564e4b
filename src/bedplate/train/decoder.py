"""A compact decoder-only transformer: rotary positions, grouped queries, RMSNorm, SwiGLU. The reference model, with its parallel plan.

Rotary embedding: Su et al. 2021 (arXiv:2104.09864), halves rotated as in GPT-NeoX. Grouped queries: Ainslie et al. 2023
(arXiv:2305.13245). SwiGLU: Shazeer 2020 (arXiv:2002.05202). RMSNorm: Zhang and Sennrich 2019 (arXiv:1910.07467).
Does not know: tokenizers, losses, or meshes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from bedplate.core.errors import JobError
from bedplate.train.plan import Plan

Cache = list[tuple[torch.Tensor, torch.Tensor]]
"""For each block keys and values, [rows, key-value heads, positions, head width]."""


@dataclass(frozen=True)
class DecoderConfig:
    """The sizes of a decoder. `hidden` is the width of the feed-forward layers, `length` the longest sequence that `generate` makes."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    key_value_heads: int
    hidden: int
    length: int = 2048
    rotary_base: float = 10_000.0
    tied: bool = False
    dropout: float = 0.0
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        """Raises JobError for sizes that do not fit together."""
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise JobError("the width must be an even multiple of the heads", value=(self.width, self.heads))
        if self.heads % self.key_value_heads:
            raise JobError("the heads must be a multiple of the key-value heads", value=(self.heads, self.key_value_heads))

    @property
    def head_width(self) -> int:
        """The width of one attention head."""
        return self.width // self.heads

    @property
    def parameters(self) -> int:
        """How many parameters the decoder has."""
        attention = self.width * self.head_width * 2 * (self.heads + self.key_value_heads)
        block = attention + 3 * self.width * self.hidden + 2 * self.width
        return self.layers * block + self.width * self.vocabulary * (1 if self.tied else 2) + self.width


class Decoder(nn.Module):
    """Takes tokens, int64 [rows, positions]; gives logits, [rows, positions, vocabulary]."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=config.epsilon)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        powers = torch.arange(0, config.head_width, 2, dtype=torch.float32) / config.head_width
        self.register_buffer("frequencies", config.rotary_base**-powers, persistent=False)
        self._draw()
        if config.tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor, cache: Cache | None = None) -> torch.Tensor:
        """Logits of every position. With `cache`, tokens follow those that it holds, and it is extended."""
        return run_part(self, tokens, True, True, cache)

    @torch.inference_mode()
    def generate(
        self, prompt_ids: Sequence[int] | torch.Tensor, max_new: int, *, end: int | None = None, temperature: float = 0.0
    ) -> list[int]:
        """The tokens that follow a prompt: the likeliest at temperature 0, else drawn from torch's global generator.

        Ends after `max_new` tokens, behind the token `end`, or at the decoder's length. Raises JobError for a prompt that does not fit.
        """
        device = self.embedding.weight.device
        given = torch.as_tensor(prompt_ids, dtype=torch.long, device=device).reshape(1, -1)
        if not 0 < given.shape[1] <= self.config.length:
            raise JobError("a prompt must have between 1 token and the decoder's length", value=given.shape[1], fix=f"{self.config.length}")
        cache: Cache = []
        made: list[int] = []
        limit = min(max_new, self.config.length - given.shape[1])
        while len(made) < limit and (not made or made[-1] != end):
            logits = self(given, cache)[0, -1].float()
            chosen = torch.multinomial((logits / temperature).softmax(0), 1) if temperature > 0 else logits.argmax().reshape(1)
            made.append(int(chosen))
            given = chosen.reshape(1, 1)
        return made

    def parallel_plan(self) -> Plan:
        """How this model may be cut (see `bedplate.train.plan`)."""
        config = self.config
        return Plan(
            blocks="layers",
            first=("embedding",),
            last=("norm", "head"),
            forward=run_part,
            tensor={
                "embedding": "embedding",
                "layers.*.attention.query": "column",
                "layers.*.attention.key": "column",
                "layers.*.attention.value": "column",
                "layers.*.attention.out": "row",
                "layers.*.feed.gate": "column",
                "layers.*.feed.up": "column",
                "layers.*.feed.down": "row",
                "head": "head",
            },
            divided={
                "heads": config.heads,
                "key-value heads": config.key_value_heads,
                "hidden width": config.hidden,
                "vocabulary": config.vocabulary,
            },
        )

    def _draw(self) -> None:
        """Normal with deviation 0.02; what is added to the residual stream is smaller, by the number of additions (as in GPT-2)."""
        small = 0.02 / math.sqrt(2 * self.config.layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=small if name.endswith(("out.weight", "down.weight")) else 0.02)


class Block(nn.Module):
    """Attention and a feed-forward layer, each on the normalized stream and added to it."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.width, eps=config.epsilon)
        self.attention = Attention(config)
        self.feed_norm = nn.RMSNorm(config.width, eps=config.epsilon)
        self.feed = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, stream: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor, cache: Cache | None = None, number: int = 0
    ) -> torch.Tensor:
        """The stream, [rows, positions, width], after this block; `number` is the block's place in `cache`."""
        stream = stream + self.dropout(self.attention(self.attention_norm(stream), cosine, sine, cache, number))
        added: torch.Tensor = stream + self.dropout(self.feed(self.feed_norm(stream)))
        return added


class Attention(nn.Module):
    """Causal attention; a group of queries shares keys and values. The number of heads follows from the weights that are there."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.head_width = config.head_width
        self.query = nn.Linear(config.width, config.heads * self.head_width, bias=False)
        self.key = nn.Linear(config.width, config.key_value_heads * self.head_width, bias=False)
        self.value = nn.Linear(config.width, config.key_value_heads * self.head_width, bias=False)
        self.out = nn.Linear(config.heads * self.head_width, config.width, bias=False)
        self.grouped = config.heads != config.key_value_heads

    def forward(
        self, stream: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor, cache: Cache | None = None, number: int = 0
    ) -> torch.Tensor:
        """What attention adds to the stream."""
        query = rotated(self._heads(self.query(stream)), cosine, sine)
        key = rotated(self._heads(self.key(stream)), cosine, sine)
        value = self._heads(self.value(stream))
        if cache is not None:
            key, value = _extended(cache, number, key, value)
        causal = key.shape[2] == query.shape[2]  # tokens that follow a cache are given one at a time and see all
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=causal, enable_gqa=self.grouped)
        out: torch.Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _heads(self, projected: torch.Tensor) -> torch.Tensor:
        return projected.view(*projected.shape[:2], -1, self.head_width).transpose(1, 2)


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.width, config.hidden, bias=False)
        self.up = nn.Linear(config.width, config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        """What the layer adds to the stream."""
        added: torch.Tensor = self.down(functional.silu(self.gate(stream)) * self.up(stream))
        return added


def run_part(part: nn.Module, inputs: torch.Tensor, is_first: bool, is_last: bool, cache: Cache | None = None) -> torch.Tensor:
    """The blocks of a decoder that are there, with the embedding before them and the head behind, where this is the first or last part.

    Raises JobError for several tokens behind a cache that is not empty.
    """
    assert isinstance(part.layers, nn.ModuleList) and isinstance(part.frequencies, torch.Tensor)
    past = cache[0][0].shape[2] if cache else 0
    if past and inputs.shape[1] > 1:
        raise JobError("tokens behind a cache are given one at a time", value=inputs.shape[1])
    stream = part.embedding(inputs) if is_first else inputs  # type: ignore[operator] # a module's attributes are untyped
    angles = torch.outer(torch.arange(past, past + inputs.shape[1], device=inputs.device, dtype=torch.float32), part.frequencies)
    cosine, sine = angles.cos(), angles.sin()
    for number, block in enumerate(part.layers):
        stream = block(stream, cosine, sine, cache, number)
    return part.head(part.norm(stream)) if is_last else stream  # type: ignore[operator] # as above


def rotated(heads: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Heads, [rows, heads, positions, width], turned by the angles of their positions, [positions, width / 2]."""
    left, right = heads.to(torch.promote_types(heads.dtype, torch.float32)).chunk(2, dim=-1)
    return torch.cat([left * cosine - right * sine, right * cosine + left * sine], dim=-1).to(heads.dtype)


def _extended(cache: Cache, number: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if number < len(cache):
        key, value = torch.cat([cache[number][0], key], dim=2), torch.cat([cache[number][1], value], dim=2)
        cache[number] = key, value
    else:
        cache.append((key, value))
    return key, value
