import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional

from bedplate.core.errors import JobError
from bedplate.train.decoder import Decoder, DecoderConfig, rotated

CONFIG = DecoderConfig(vocabulary=40, width=16, layers=3, heads=4, key_value_heads=2, hidden=24, length=32)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small a model is faster so, above all where other tests run at the same time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(3)
    return Decoder(CONFIG).eval()


@pytest.mark.parametrize("tied", [False, True])
def test_it_has_as_many_parameters_as_it_says(tied: bool) -> None:
    config = dataclasses.replace(CONFIG, tied=tied)
    assert sum(parameter.numel() for parameter in Decoder(config).parameters()) == config.parameters


def test_a_position_sees_none_that_follow(decoder: Decoder) -> None:
    tokens = torch.randint(0, 40, (2, 10))
    changed = tokens.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 40
    before, after = decoder(tokens), decoder(changed)
    assert torch.equal(before[:, :6], after[:, :6])
    assert not torch.equal(before[:, 6:], after[:, 6:])


def test_attention_depends_on_distance_only() -> None:
    query, key = torch.randn(1, 1, 1, 8).double(), torch.randn(1, 1, 1, 8).double()
    frequencies = 10_000.0 ** -(torch.arange(0, 8, 2).double() / 8)

    def score(at: int, other: int) -> torch.Tensor:
        turned = [rotated(each, (place * frequencies).cos(), (place * frequencies).sin()) for each, place in ((query, at), (key, other))]
        return (turned[0] * turned[1]).sum()

    assert torch.allclose(score(3, 1), score(23, 21))
    assert not torch.allclose(score(3, 1), score(3, 2))


def test_it_learns(decoder: Decoder) -> None:
    tokens = torch.arange(40).repeat(4, 1)[:, :20]
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = functional.cross_entropy(decoder(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < losses[0]
    assert decoder.generate([0, 1, 2], 5) == [3, 4, 5, 6, 7]
    assert decoder.generate(torch.tensor([0, 1, 2]), 5, end=4) == [3, 4]


def test_generation_with_its_cache_is_what_the_whole_sequence_gives(decoder: Decoder) -> None:
    prompt = [7, 3, 9, 11]
    sequence = list(prompt)
    for _ in range(12):
        sequence.append(int(decoder(torch.tensor([sequence]))[0, -1].argmax()))
    assert decoder.generate(prompt, 12) == sequence[len(prompt) :]


def test_generation_ends_at_the_decoders_length_and_draws_from_the_seed(decoder: Decoder) -> None:
    assert len(decoder.generate([1] * 30, 100)) == 2
    torch.manual_seed(1)
    first = decoder.generate([1, 2], 10, temperature=1.0)
    torch.manual_seed(1)
    assert decoder.generate([1, 2], 10, temperature=1.0) == first
    assert first != decoder.generate([1, 2], 10, temperature=1.0)


@pytest.mark.parametrize("prompt", [[], [1] * 33])
def test_a_prompt_that_does_not_fit(decoder: Decoder, prompt: list[int]) -> None:
    with pytest.raises(JobError, match="prompt"):
        decoder.generate(prompt, 1)


def test_several_tokens_behind_a_cache(decoder: Decoder) -> None:
    cache: list[tuple[torch.Tensor, torch.Tensor]] = []
    decoder(torch.tensor([[1, 2]]), cache)
    with pytest.raises(JobError, match="one at a time"):
        decoder(torch.tensor([[1, 2]]), cache)


@pytest.mark.parametrize("changes", [{"heads": 3}, {"key_value_heads": 3}, {"heads": 16, "key_value_heads": 1}])
def test_sizes_that_do_not_fit_together(changes: dict[str, int]) -> None:
    with pytest.raises(JobError):
        dataclasses.replace(CONFIG, **changes)
