"""Parameters and FLOP of models against the numbers that their authors publish."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.core.errors import SpecError
from bedplate.train.planner.presets import preset
from bedplate.train.planner.shape import Shape, from_config


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("llama2-7b", 6_738_415_616),
        ("llama2-13b", 13_015_864_320),
        ("llama2-70b", 68_976_648_192),
        ("llama3-8b", 8_030_261_248),
        ("llama3-70b", 70_553_706_496),
        ("llama3-405b", 405_853_388_800),
        ("mistral-7b", 7_241_732_096),
        ("mixtral-8x7b", 46_702_792_704),
    ],
)
def test_parameters_are_those_of_the_published_weights(name: str, published: int) -> None:
    assert preset(name).parameters == published


@pytest.mark.parametrize(
    ("name", "published"), [("mpt-7b", 6658859008), ("mpt-30b", 29975214080), ("mpt-70b", 64862437376), ("mpt-1b", 1315950592)]
)
def test_models_with_biases_left_out_are_right_to_a_thousandth(name: str, published: int) -> None:
    assert preset(name).parameters == pytest.approx(published, rel=1e-3)


def test_flop_of_a_token_are_six_a_parameter_and_attention() -> None:
    shape = preset("gpt3-175b")
    plain = 6 * shape.matrix_parameters
    attention = 12 * shape.layers * shape.hidden * 2048
    assert shape.train_flops(2048, causal=False) == pytest.approx(plain + attention)
    assert shape.train_flops(2048) == pytest.approx(plain + attention / 2)


def test_flop_are_those_of_narayanan_et_al() -> None:
    """96 B s l h^2 (1 + s/6h + V/16lh) with recomputation is four thirds of forward and backward (2021, equation 3)."""
    shape = dataclasses.replace(preset("gpt3-175b"), positions=0)
    layers, hidden, vocab, s = shape.layers, shape.hidden, shape.vocab, 2048
    of_all = 96 * s * layers * hidden**2 * (1 + s / (6 * hidden) + vocab / (16 * layers * hidden))
    forward_and_backward = shape.train_flops(s, causal=False) * s
    layers_forward = (2 * shape.layers * shape.active_layer_parameters + shape.attention_flops(s, causal=False)) * s
    assert forward_and_backward + layers_forward == pytest.approx(of_all, rel=1e-9)


def test_flop_are_those_that_mosaic_counts() -> None:
    """7b at 2048: 10643 tokens/s and device are 459.5 TFLOP/s with attention in full (llm-foundry)."""
    assert 10643 * preset("mpt-7b").train_flops(2048, causal=False) == pytest.approx(459.5e12, rel=0.01)


def test_of_experts_only_those_that_are_used_compute() -> None:
    shape = preset("mixtral-8x7b")
    assert shape.matrix_parameters == pytest.approx(12.9e9, rel=0.02)
    assert shape.parameters == pytest.approx(46.7e9, rel=0.01)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 4), st.booleans())
def test_parameters_grow_by_a_layer_with_each_layer(layers: int, heads: int, experts: int, gated: bool) -> None:
    shape = Shape("x", layers, heads * 8, heads, 1, 64, 100, gated=gated, experts=experts)
    more = dataclasses.replace(shape, layers=layers + 1)
    assert more.parameters - shape.parameters == shape.layer_parameters
    assert more.train_flops(16) > shape.train_flops(16)


def test_a_config_of_transformers_is_read() -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
    }
    assert from_config(config, "mine").parameters == preset("llama3-8b").parameters


def test_a_config_of_gpt2_is_read() -> None:
    config = {
        "model_type": "gpt2",
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "vocab_size": 50257,
        "n_positions": 1024,
        "tie_word_embeddings": True,
    }
    assert from_config(config).parameters == preset("gpt2").parameters


def test_a_config_of_a_mixture_takes_the_width_of_an_expert() -> None:
    config = {
        "hidden_size": 2048,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "vocab_size": 151936,
    }
    assert from_config(config).parameters == preset("qwen3-30b-a3b").parameters


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(SpecError, match="hidden"):
        from_config({"vocab_size": 10})
    with pytest.raises(SpecError, match="multiple of kv_heads"):
        Shape("x", 1, 64, 4, 3, 64, 100)
    with pytest.raises(SpecError, match="from 1 on"):
        Shape("x", 0, 64, 4, 4, 64, 100)


@pytest.mark.parametrize("name", ["layers", "hidden", "heads", "kv_heads", "ffn", "vocab", "experts", "experts_per_token"])
def test_a_size_of_zero_is_refused_by_its_name(name: str) -> None:
    sizes = {"layers": 2, "hidden": 64, "heads": 4, "kv_heads": 2, "ffn": 128, "vocab": 100, name: 0}
    with pytest.raises(SpecError, match=name):
        Shape("x", **sizes)


def test_a_head_is_the_hidden_width_over_heads_unless_given() -> None:
    assert Shape("x", 1, 64, 4, 2, 64, 100).q_width == 64
    wide = Shape("x", 1, 64, 4, 2, 64, 100, head=32)
    assert (wide.q_width, wide.kv_width) == (128, 64)


def test_grouped_queries_shrink_keys_and_values_only() -> None:
    full, grouped = Shape("x", 1, 64, 4, 4, 64, 100), Shape("x", 1, 64, 4, 1, 64, 100)
    assert full.attention_parameters - grouped.attention_parameters == 2 * 64 * (64 - 16)
    assert full.attention_flops(128) == grouped.attention_flops(128)


def test_a_tied_output_is_counted_once_and_computed_all_the_same() -> None:
    apart = Shape("x", 2, 64, 4, 4, 64, 1000)
    tied = dataclasses.replace(apart, tied=True)
    assert apart.parameters - tied.parameters == 64 * 1000
    assert apart.train_flops(32) == tied.train_flops(32)


def test_positions_are_looked_up_not_multiplied() -> None:
    plain = Shape("x", 2, 64, 4, 4, 64, 1000)
    learned = dataclasses.replace(plain, positions=512)
    assert learned.parameters - plain.parameters == 64 * 512
    assert learned.train_flops(32) == plain.train_flops(32)


def test_a_shape_written_as_json_is_read_again() -> None:
    shape = preset("qwen3-30b-a3b")
    written = shape.to_json()
    assert written["parameters"] == shape.parameters
    assert from_config(written) == shape


def test_a_config_without_an_inner_width_has_four_times_the_hidden_one() -> None:
    config = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100}
    shape = from_config(config, "small")
    assert (shape.name, shape.ffn, shape.kv_heads, shape.gated, shape.positions) == ("small", 256, 4, False, 0)


def test_the_missing_field_of_a_config_is_named() -> None:
    config = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    with pytest.raises(SpecError, match="no `vocab`"):
        from_config(config)


@pytest.mark.parametrize(
    ("change", "parameters", "multiplied", "attention_flops"),
    [
        ({}, 2 * (192 + 384 + 16) + 80 + 80 + 8, 2 * (192 + 384) + 80, 2 * 4 * 4 * 8),
        ({"gated": False}, 2 * (192 + 256 + 16) + 168, 2 * (192 + 256) + 80, 256),
        ({"tied": True}, 2 * 592 + 88, 2 * 576 + 80, 256),
        ({"kv_heads": 2}, 2 * (256 + 384 + 16) + 168, 2 * (256 + 384) + 80, 256),
        ({"head": 8}, 2 * (384 + 384 + 16) + 168, 2 * (384 + 384) + 80, 2 * 4 * 4 * 16),
        ({"positions": 5}, 2 * 592 + 168 + 40, 2 * 576 + 80, 256),
        ({"experts": 4, "experts_per_token": 2}, 2 * (192 + 4 * 384 + 32 + 16) + 168, 2 * (192 + 2 * 384 + 32) + 80, 256),
        ({"layers": 1, "vocab": 20}, 592 + 160 + 160 + 8, 576 + 160, 128),
    ],
)
def test_a_tiny_model_worked_out_by_hand(change: dict[str, object], parameters: int, multiplied: int, attention_flops: int) -> None:
    """Two layers of width 8, with two heads of which one is of keys and values, an inner width of 16 and ten words; four tokens."""
    shape = dataclasses.replace(Shape("tiny", 2, 8, 2, 1, 16, 10), **{"head": 0, **change})
    assert (shape.parameters, shape.matrix_parameters) == (parameters, multiplied)
    assert shape.attention_flops(4, causal=False) == attention_flops
    assert shape.attention_flops(4) == attention_flops / 2
    assert shape.train_flops(4) == 6 * multiplied + 3 * attention_flops / 2
