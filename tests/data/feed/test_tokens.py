"""Token records as int64 rows, from shards in any order."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bedplate.data.feed.records import MappedShards, Records
from bedplate.data.feed.tokens import TokenCodec
from data.feed.sets import numbered


def test_rows_of_several_shards_keep_their_order(tmp_path: Path) -> None:
    made = numbered(tmp_path)
    records = Records(made.manifest.shards("train"), MappedShards(made.folder, made.manifest.record))
    wanted = [99, 0, 7, 6, 50, 51, 7]
    tokens = TokenCodec(made.manifest).columns(records, np.array(wanted))["tokens"]
    assert (tokens.dtype, tokens.shape) == (np.int64, (7, 4))
    assert tokens.tolist() == [[number] * 4 for number in wanted]
    assert tokens.flags.writeable


def test_no_rows(tmp_path: Path) -> None:
    made = numbered(tmp_path)
    records = Records(made.manifest.shards("train"), MappedShards(made.folder, made.manifest.record))
    assert TokenCodec(made.manifest).columns(records, np.empty(0, np.int64))["tokens"].shape == (0, 4)


def test_batches_of_spans_are_the_rows_of_each_span_in_its_order(tmp_path: Path) -> None:
    made = numbered(tmp_path)
    records = Records(made.manifest.shards("train"), MappedShards(made.folder, made.manifest.record))
    spans = [np.array([13, 99, 0]), np.array([14]), np.array([7, 13])]
    found = [batch["tokens"] for batch in TokenCodec(made.manifest).batches(records, spans)]
    assert [batch[:, 0].tolist() for batch in found] == [[13, 99, 0], [14], [7, 13]]
    assert {batch.dtype for batch in found} == {np.dtype(np.int64)}


def test_a_batch_that_is_written_to_changes_no_other(tmp_path: Path) -> None:
    made = numbered(tmp_path)
    records = Records(made.manifest.shards("train"), MappedShards(made.folder, made.manifest.record))
    first, second = TokenCodec(made.manifest).batches(records, [np.array([3, 4]), np.array([3, 4])])
    first["tokens"][:] = -1
    assert second["tokens"][:, 0].tolist() == [3, 4]
    assert TokenCodec(made.manifest).columns(records, np.array([3]))["tokens"].tolist() == [[3] * 4]


def test_gathered_tokens_keep_the_width_in_which_they_are_stored(tmp_path: Path) -> None:
    made = numbered(tmp_path)
    records = Records(made.manifest.shards("valid"), MappedShards(made.folder, made.manifest.record))
    gathered = TokenCodec(made.manifest).gathered(records, np.array([4, 0]))
    assert gathered.dtype == np.dtype("<u2")
    assert gathered[:, 0].tolist() == [104, 100]
