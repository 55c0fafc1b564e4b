"""Preprocessing of samples: what a version keeps of them, and that it survives JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from bedplate.core.errors import DataError
from bedplate.core.protocols import FeedSchema
from bedplate.train.preprocess import Preprocessing, fit
from bedplate.train.text import TextPreprocessing
from train.samples import ArrayFeed

FACTS = {"sequence": 4, "vocabulary": 300, "end": 0}


class SampleArrays(ArrayFeed):
    """A feed of token samples in memory."""

    def __init__(self, rows: int, facts: Mapping[str, Any] = FACTS) -> None:
        super().__init__({"train": {"tokens": np.zeros((rows, 5))}}, FeedSchema((), (), "", "tokens", facts), {})

    def rows(self, split: str) -> int:
        return len(self._splits[split]["tokens"])

    @property
    def tokenizer(self) -> str:
        return "{}"


def test_what_is_fitted_is_what_the_feed_says() -> None:
    fitted = fit(SampleArrays(3))
    assert isinstance(fitted, TextPreprocessing)
    signature = fitted.signature
    assert (signature.kind, signature.vocabulary, signature.sequence, signature.end) == ("tokens", 300, 4, 0)
    assert signature.numeric_width == 0
    assert signature.to_json()["facts"] == FACTS
    assert Preprocessing.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


def test_arrays_of_the_feed_go_to_the_model_as_they_are() -> None:
    fitted = fit(SampleArrays(3))
    tokens = np.arange(10).reshape(2, 5)
    assert fitted.encode_columns({"tokens": tokens}, lambda _: ())["tokens"] is tokens


def test_without_samples_there_is_nothing_to_train_on() -> None:
    with pytest.raises(DataError, match="no samples to train on"):
        fit(SampleArrays(0))


def test_a_fact_of_another_kind_is_not_there() -> None:
    signature = fit(SampleArrays(3)).signature
    with pytest.raises(DataError, match="a model of kind 'tokens' has no such fact"):
        _ = signature.classes
    with pytest.raises(DataError, match="no such fact"):
        _ = signature.size
