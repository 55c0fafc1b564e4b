"""Models by name: the names people write, and sizes that fit their names."""

from __future__ import annotations

import re

import pytest

from bedplate.core.errors import NotFound
from bedplate.train.planner.presets import MODELS, preset


@pytest.mark.parametrize("name", [name for name in MODELS if re.search(r"-[\d.]+[bm]$", name)])
def test_a_model_has_about_as_many_parameters_as_its_name_says(name: str) -> None:
    match = re.search(r"-([\d.]+)([bm])$", name)
    assert match is not None
    assert MODELS[name].parameters == pytest.approx(float(match[1]) * {"b": 1e9, "m": 1e6}[match[2]], rel=0.35)


@pytest.mark.parametrize(
    ("written", "name"), [("Llama-3.1-70B", "llama3-70b"), ("llama3.1-405b", "llama3-405b"), ("GPT3_175B", "gpt3-175b")]
)
def test_names_are_found_as_people_write_them(written: str, name: str) -> None:
    assert preset(written).name == name


def test_an_unknown_name_names_the_nearest_and_a_way_out() -> None:
    with pytest.raises(NotFound, match=r"did you mean 'llama3-8b'.*config\.json"):
        preset("llama3-9b")


def test_every_model_is_under_its_own_name() -> None:
    assert all(name == shape.name for name, shape in MODELS.items())
    assert len(MODELS) >= 35
