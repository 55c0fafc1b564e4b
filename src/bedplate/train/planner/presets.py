"""Shapes of models that people train, by name.

Does not know: any model that is not in the table; `shape.from_config` reads the `config.json` of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bedplate.core.errors import NotFound, nearest
from bedplate.train.planner.shape import Shape


def _llama(name: str, layers: int, hidden: int, heads: int, kv_heads: int, ffn: int, vocab: int) -> Shape:
    return Shape(name, layers, hidden, heads, kv_heads, ffn, vocab)


def _gpt(name: str, layers: int, hidden: int, heads: int, vocab: int = 51200, positions: int = 2048) -> Shape:
    return Shape(name, layers, hidden, heads, heads, 4 * hidden, vocab, gated=False, tied=True, positions=positions)


def _mpt(name: str, layers: int, hidden: int, heads: int) -> Shape:
    return _gpt(name, layers, hidden, heads, vocab=50368)


def _qwen(name: str, layers: int, hidden: int, heads: int, kv_heads: int, ffn: int, vocab: int = 152064) -> Shape:
    return Shape(name, layers, hidden, heads, kv_heads, ffn, vocab, tied=vocab == 151936)


_ALL = (
    _llama("llama2-7b", 32, 4096, 32, 32, 11008, 32000),  # Touvron et al. 2023, https://arxiv.org/abs/2307.09288
    _llama("llama2-13b", 40, 5120, 40, 40, 13824, 32000),
    _llama("llama2-70b", 80, 8192, 64, 8, 28672, 32000),
    _llama("llama3-8b", 32, 4096, 32, 8, 14336, 128256),  # Llama 3, table 3, https://arxiv.org/abs/2407.21783
    _llama("llama3-70b", 80, 8192, 64, 8, 28672, 128256),
    _llama("llama3-405b", 126, 16384, 128, 8, 53248, 128256),
    Shape("llama3.2-1b", 16, 2048, 32, 8, 8192, 128256, tied=True),  # https://huggingface.co/meta-llama/Llama-3.2-1B
    Shape("llama3.2-3b", 28, 3072, 24, 8, 8192, 128256, tied=True),
    _llama("mistral-7b", 32, 4096, 32, 8, 14336, 32000),  # https://arxiv.org/abs/2310.06825
    Shape("mixtral-8x7b", 32, 4096, 32, 8, 14336, 32000, experts=8, experts_per_token=2),  # https://arxiv.org/abs/2401.04088
    Shape("mixtral-8x22b", 56, 6144, 48, 8, 16384, 32768, experts=8, experts_per_token=2),
    _qwen("qwen2.5-0.5b", 24, 896, 14, 2, 4864, 151936),  # https://arxiv.org/abs/2412.15115
    _qwen("qwen2.5-1.5b", 28, 1536, 12, 2, 8960, 151936),
    _qwen("qwen2.5-3b", 36, 2048, 16, 2, 11008, 151936),
    _qwen("qwen2.5-7b", 28, 3584, 28, 4, 18944),
    _qwen("qwen2.5-14b", 48, 5120, 40, 8, 13824),
    _qwen("qwen2.5-32b", 64, 5120, 40, 8, 27648),
    _qwen("qwen2.5-72b", 80, 8192, 64, 8, 29568),
    Shape("qwen3-30b-a3b", 48, 2048, 32, 4, 768, 151936, head=128, experts=128, experts_per_token=8),  # https://arxiv.org/abs/2505.09388
    Shape("qwen3-235b-a22b", 94, 4096, 64, 4, 1536, 151936, head=128, experts=128, experts_per_token=8),
    _gpt("gpt2", 12, 768, 12, vocab=50257, positions=1024),
    _gpt("gpt2-xl", 48, 1600, 25, vocab=50257, positions=1024),
    _gpt("gpt3-5b", 24, 4096, 32),  # NeMo's recipes
    _gpt("gpt3-20b", 44, 6144, 48),
    _gpt("gpt3-175b", 96, 12288, 96),  # Brown et al. 2020, table 2.1, https://arxiv.org/abs/2005.14165
    Shape("gpt-neox-20b", 44, 6144, 64, 64, 24576, 50432, gated=False),  # https://arxiv.org/abs/2204.06745
    _mpt("mpt-125m", 12, 768, 12),  # llm-foundry, scripts/train/yamls/pretrain
    _mpt("mpt-350m", 24, 1024, 16),
    _mpt("mpt-760m", 24, 1536, 12),
    _mpt("mpt-1b", 24, 2048, 16),
    _mpt("mpt-3b", 32, 2560, 20),
    _mpt("mpt-7b", 32, 4096, 32),
    _mpt("mpt-13b", 40, 5120, 40),
    _mpt("mpt-30b", 48, 7168, 56),
    _mpt("mpt-70b", 80, 8192, 64),
    Shape("nemotron-8b", 32, 4096, 32, 32, 16384, 256000, gated=False),  # NeMo's recipes
    Shape("nemotron-15b", 32, 6144, 48, 8, 24576, 256000, gated=False),  # https://arxiv.org/abs/2402.16819
    Shape("nemotron-22b", 40, 6144, 48, 48, 24576, 256000, gated=False),
    Shape("nemotron-340b", 96, 18432, 96, 8, 73728, 256000, gated=False),  # https://arxiv.org/abs/2406.11704
)
MODELS: Final[Mapping[str, Shape]] = {shape.name: shape for shape in _ALL}


def preset(name: str) -> Shape:
    """The model of that name; `llama3.1` counts as `llama3`. Raises NotFound."""
    plain = name.lower().replace("_", "-").replace("llama-", "llama").replace("llama3.1", "llama3")
    if plain not in MODELS:
        fix = f"{nearest(name, MODELS)}, or give a file: --model path/to/config.json"
        raise NotFound("no such model is known", value=name, fix=fix)
    return MODELS[plain]
