"""Token sets: every document is in one split, whole and once, packed without padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import DataError
from bedplate.core.spec import Dataset, Split, TextInputs
from bedplate.data.feed.derived import Derived
from bedplate.data.feed.samples import SampleFeed, open_feed
from bedplate.data.token_set import build
from data.documents import table, tokenizer

DATASET = Dataset(source="text/*.txt")


def made(folder: Path, texts: list[str | None], split: Split | None = None, dataset: Dataset = DATASET, **fields: Any) -> Derived:
    file = folder / "tokenizer.json"
    if not file.exists():
        tokenizer(file)
    given = {"text": "corpus.text", "tokenizer": "tokenizer.json", "sequence": 8} | fields
    inputs = TextInputs.model_validate(given)
    return build(inputs, split or Split(), table(text=texts), dataset, {"corpus": "v1"}, file, folder / "derived", lambda *_: None)


def stream(feed: SampleFeed, split: str) -> list[int]:
    """The packed tokens of a split: records overlap by one."""
    tokens = feed.columns(split)["tokens"]
    return [*tokens[:, :-1].reshape(-1).tolist(), *tokens[-1:, -1].tolist()]


def documents(feed: SampleFeed, split: str, file: Path) -> list[str]:
    """The whole documents of a split, without the last one, which may be cut off."""
    from tokenizers import Tokenizer, decoders

    read = Tokenizer.from_file(str(file))
    read.decoder = decoders.ByteLevel()
    found: list[str] = []
    current: list[int] = []
    for token in stream(feed, split):
        if token == feed.schema.facts["end"]:
            found.append(read.decode(current))
            current = []
        else:
            current.append(token)
    return found


def opened(derived: Derived) -> SampleFeed:
    feed = open_feed(derived.folder, derived.folder, 1)
    assert isinstance(feed, SampleFeed)
    return feed


@settings(max_examples=15, deadline=None)
@given(texts=st.lists(st.text(min_size=1, max_size=40), min_size=30, max_size=60, unique=True), sequence=st.integers(1, 12))
def test_documents_come_back_whole_and_once(tmp_path_factory: pytest.TempPathFactory, texts: list[str], sequence: int) -> None:
    folder = tmp_path_factory.mktemp("set")
    feed = opened(made(folder, list(texts), sequence=sequence))
    facts = feed.schema.facts
    back = [text for split in ("train", "valid", "test") if feed.rows(split) for text in documents(feed, split, folder / "tokenizer.json")]
    assert len(back) == len(set(back))
    assert set(back) <= set(texts)
    assert len(back) >= len(texts) - sum(1 + left for left in facts["left_out"].values())
    assert sum(facts["documents"].values()) == len(texts)
    for split in ("train", "valid", "test"):
        assert feed.rows(split) * sequence + facts["left_out"][split] == facts["tokens"][split]
        if facts["tokens"][split]:
            assert 1 <= facts["left_out"][split] <= sequence


def test_each_record_begins_with_the_last_token_of_the_one_before(tmp_path: Path) -> None:
    tokens = opened(made(tmp_path, [f"document {number}" for number in range(50)])).columns("train")["tokens"]
    assert tokens.shape[1] == 9
    assert (tokens[1:, 0] == tokens[:-1, -1]).all()


def test_the_same_is_derived_once_and_any_other_anew(tmp_path: Path) -> None:
    texts: list[str | None] = [f"document {number} " * 3 for number in range(40)]
    first = made(tmp_path, texts)
    assert first.made
    assert not made(tmp_path, texts).made
    others = [made(tmp_path, texts, sequence=9), made(tmp_path, texts, seed=1), made(tmp_path, texts, Split(valid=0.2))]
    assert [other.made for other in others] == [True, True, True]
    assert len({each.folder for each in (first, *others)}) == 4
    (tmp_path / "tokenizer.json").unlink()
    tokenizer(tmp_path / "tokenizer.json", "</s>")
    assert made(tmp_path, texts).made, "another tokenizer"


def test_the_seed_orders_documents_and_splits_follow_their_text(tmp_path: Path) -> None:
    texts = [f"document {number}" for number in range(200)]
    one, two = opened(made(tmp_path, list(texts))), opened(made(tmp_path, list(reversed(texts))))
    assert one.schema.facts["documents"] == two.schema.facts["documents"]
    counts = one.schema.facts["documents"]
    assert 5 <= counts["valid"] <= 40
    assert 20 <= counts["test"] <= 65
    seeded = opened(made(tmp_path, list(texts), seed=1))
    assert stream(one, "train") != stream(seeded, "train")


def test_with_a_time_the_last_documents_are_the_test(tmp_path: Path) -> None:
    dataset = Dataset(source="x.parquet", known_at="at")
    texts = [f"{number:03d}" * 4 for number in range(100)]
    feed = opened(made(tmp_path, list(texts), Split(valid=0.1, test=0.2), dataset))
    assert feed.schema.facts["documents"] == {"train": 70, "valid": 10, "test": 20}
    assert set(documents(feed, "test", tmp_path / "tokenizer.json")) <= set(texts[80:])


def test_null_documents_are_left_out_and_the_tokenizer_is_kept(tmp_path: Path) -> None:
    derived = made(tmp_path, [None, *(f"document {number}" for number in range(50)), None])
    feed = opened(derived)
    assert sum(feed.schema.facts["documents"].values()) == 50
    assert feed.tokenizer == (tmp_path / "tokenizer.json").read_text()
    assert derived.manifest.record["tokens"].subdtype[0] == np.dtype("<u2")  # type: ignore[index] # it has one


def test_text_that_is_too_short(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"too short for one training sample.*smaller `sequence`"):
        made(tmp_path, ["a", "b"], sequence=100)


def test_a_tokenizer_without_an_end_or_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such end token \(got '<stop>'\)"):
        made(tmp_path, ["a"], end="<stop>")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="the tokenizer cannot be read"):
        made(tmp_path, ["a"])


def test_a_column_that_is_no_text(tmp_path: Path) -> None:
    tokenizer(tmp_path / "t.json")
    inputs = TextInputs(text="corpus.text", tokenizer="t.json", sequence=4)
    with pytest.raises(DataError, match=r"documents must be text \(got 'corpus.text is int64'\)"):
        build(inputs, Split(), table(text=[1, 2]), DATASET, {}, tmp_path / "t.json", tmp_path, lambda *_: None)
