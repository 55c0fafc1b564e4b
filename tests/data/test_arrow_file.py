"""Files of a view: whole tables and gathered columns, equal content in equal bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bedplate.core.digest import digest_file
from bedplate.data.arrow_file import BATCH_ROWS, Gathered, write


def stored(path: Path) -> pa.Table:
    """What a file holds."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def test_a_table_is_written_in_one_batch_whatever_pieces_it_had(tmp_path: Path) -> None:
    whole = pa.table({"n": list(range(10))})
    pieces = pa.concat_tables([whole.slice(0, 3), whole.slice(3)])
    digests = {write(tmp_path / str(place), table) for place, table in enumerate((whole, pieces))}
    assert digests == {digest_file(tmp_path / "0")}
    assert stored(tmp_path / "1").equals(whole)
    assert stored(tmp_path / "1").column("n").num_chunks == 1


@pytest.mark.parametrize("count", [0, 1, BATCH_ROWS, 5 * BATCH_ROWS + 3])
def test_gathered_rows_are_read_back_in_their_order(tmp_path: Path, count: int) -> None:
    rows = np.random.default_rng(6).integers(0, 5, count)
    columns: dict[str, pa.Array[Any]] = {"n": pa.array([5, None, 7, 8, 9]), "s": pa.array(["a", "bb", None, "c", "d"])}
    gathered = Gathered(columns, rows)
    assert gathered.schema == pa.schema([("n", pa.int64()), ("s", pa.string())])
    first, again = write(tmp_path / "a", gathered), write(tmp_path / "b", gathered)
    assert first == again == digest_file(tmp_path / "a")
    assert stored(tmp_path / "a").equals(pa.table(columns).take(pa.array(rows)))


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(pa.ArrowIndexError):
        write(tmp_path / "a", Gathered({"n": pa.array([1])}, np.array([0, 7])))
    assert list(tmp_path.iterdir()) == []
