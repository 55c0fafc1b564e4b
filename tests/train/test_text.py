"""Text of a request: the tokens of the tokenizer that was trained with, the same as in the training set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bedplate.core.errors import CheckpointError, DataError
from bedplate.core.spec import Dataset, Split, TextInputs
from bedplate.data.feed.samples import open_feed
from bedplate.data.token_set import build
from bedplate.train.bundle import ModelVersion, save_model
from bedplate.train.preprocess import Preprocessing, fit
from data.documents import END, table, tokenizer

TEXTS = [f"def number_{number}(): return {number}" for number in range(40)]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Preprocessing:
    """Of a token set of forty documents."""
    folder: Path = tmp_path_factory.mktemp("set")
    tokenizer(folder / "t.json")
    inputs = TextInputs(text="corpus.text", tokenizer="t.json", sequence=8)
    made = build(inputs, Split(), table(text=TEXTS), Dataset(source="x"), {}, folder / "t.json", folder, lambda *_: None)
    return fit(open_feed(made.folder, folder, 1))


def test_rows_become_tokens_padded_with_the_end(fitted: Preprocessing) -> None:
    arrays = fitted.encode_rows([{"text": "abc"}, {"text": "größer"}, {"text": ""}])
    assert arrays["lengths"].tolist() == [3, 8, 0]
    assert (arrays["tokens"].dtype, arrays["tokens"].shape) == (np.int64, (3, 8))
    assert arrays["tokens"][0, 3:].tolist() == [fitted.signature.end] * 5
    assert fitted.encode_rows([])["tokens"].shape == (0, 0)


def test_a_request_that_quotes_the_end_does_not_end(fitted: Preprocessing) -> None:
    arrays = fitted.encode_rows([{"text": f"a{END}b"}])
    assert fitted.signature.end not in arrays["tokens"][0].tolist()


@pytest.mark.parametrize("row", [{}, {"text": None}, {"text": 5}])
def test_a_row_without_text(fitted: Preprocessing, row: dict[str, object]) -> None:
    with pytest.raises(DataError, match="a row needs a text"):
        fitted.encode_rows([row])


def test_the_tokenizer_is_a_file_of_the_version_and_guarded_as_any_other(fitted: Preprocessing, tmp_path: Path) -> None:
    net = torch.nn.Embedding(fitted.signature.vocabulary, 4)
    digest, manifest = save_model(tmp_path / "model", net.state_dict(), fitted, {})
    assert "tokenizer.json" in manifest["files"]
    version = ModelVersion(tmp_path / "model", digest=digest)
    assert version.preprocessing == fitted
    assert version.encode([{"text": "abc"}])["tokens"].tolist() == fitted.encode_rows([{"text": "abc"}])["tokens"].tolist()
    with (tmp_path / "model" / "tokenizer.json").open("a") as file:
        file.write(" ")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        ModelVersion(tmp_path / "model", digest=digest)
