"""Image sets: the images that a table names, kept as they are encoded, each with its label and its row's place.

An image is a file below the project's folder, or `data:` with base64 in the column itself. They are decoded when they are fed, so a set
takes as much space as its images do. A row without an image or without its label is left out. A set is derived for a version of the table,
which holds names: give a changed image another name, or run the step with --force.
Does not know: how images are decoded (`data.feed.images`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bedplate.core.atomic import confined
from bedplate.core.errors import BedplateError, DataError
from bedplate.core.spec import Dataset, ImageInputs, Split
from bedplate.data.feed.derived import SHARD_BYTES, Derived, ShardWriter, derive
from bedplate.data.feed.records import Manifest
from bedplate.data.feed.table import SPLITS
from bedplate.data.hash_split import hashed_split
from bedplate.data.keys import KNOWN_AT, OFFSET, PARTITION, column, microseconds
from bedplate.data.training_set import numbers, time_split

FORMAT = 1
RECORD = [["at", "<u8"], ["bytes", "<u4"], ["partition", "<i4"], ["offset", "<i8"]]
_IMAGES = 256


def build(
    inputs: ImageInputs,
    split: Split,
    table: pa.Table,
    dataset: Dataset,
    versions: Mapping[str, str],
    project: Path,
    root: Path,
    progress: Callable[[int, int], None],
) -> Derived:
    """The image set of a table, below `root`; made unless it is there. `versions` names the table's content, `project` has the files.

    Raises DataError for a column of another type, for a file that is missing (naming its row), and for a set without training images.
    """
    key = {
        "format": FORMAT,
        "versions": dict(versions),
        "inputs": inputs.model_dump(mode="json", exclude={"store"}),
        "split": split.model_dump(mode="json"),
    }
    names = column(table, inputs.images.partition(".")[2], inputs.dataset)
    if not pa.types.is_string(names.type):
        raise DataError("images must be named by text", value=f"{inputs.images} is {names.type}", fix="name a column of type string")
    return derive(root, key, lambda folder: _Writing(inputs, split, table, dataset, project).written(folder, names, progress))


class _Writing:
    """One derivation."""

    def __init__(self, inputs: ImageInputs, split: Split, table: pa.Table, dataset: Dataset, project: Path) -> None:
        self._inputs = inputs
        self._split = split
        self._table = table
        self._dataset = dataset
        self._project = project
        self._places = {name: table.column(name).to_numpy() for name in (PARTITION, OFFSET)}

    def written(self, folder: Path, names: pa.Array[Any], progress: Callable[[int, int], None]) -> Manifest:
        """All images, split by split as they are met."""
        inputs = self._inputs
        labels, classes = self._labels()
        dtype = [*RECORD, ["label", "<i8" if classes else "<f4"]]
        facts = {"size": list(inputs.size), "source": inputs.dataset, "classes": classes}
        label = (inputs.label or "").partition(".")[2]
        manifest = Manifest("images", dtype, {}, facts, label, window=inputs.window)
        writer = ShardWriter(folder, manifest.record, SHARD_BYTES)
        there = np.asarray(names.is_valid().to_numpy(zero_copy_only=False)) & ~np.isnan(labels)
        codes = self._timed(there)
        rows = np.flatnonzero(there)
        for first in range(0, len(rows), _IMAGES):
            chosen = rows[first : first + _IMAGES]
            images = [self._read(str(names[row]), row) for row in chosen.tolist()]
            theirs = codes[chosen] if codes is not None else self._hashed(images)
            for code, split in enumerate(SPLITS):
                mine = np.flatnonzero(theirs == code)
                writer.add(split, self._records(manifest.record, chosen[mine], labels), [images[place] for place in mine.tolist()])
            progress(first + len(chosen), len(rows))
        shards = writer.end(SPLITS)
        if not shards["train"]:
            raise DataError("no image is left to train on", value=inputs.images, fix="check the column, the label and the split")
        return Manifest("images", dtype, shards, facts, label, window=inputs.window)

    def _labels(self) -> tuple[npt.NDArray[np.float64], list[str]]:
        """A number for each row, NaN for none, and the classes that it counts; no classes for a label that is a number, or for none."""
        if self._inputs.label is None:
            return np.zeros(self._table.num_rows), []
        array = column(self._table, self._inputs.label.partition(".")[2], self._inputs.dataset)
        if pa.types.is_floating(array.type):
            return numbers(array), []
        distinct = array.drop_null().unique().sort()
        codes = {value: code for code, value in enumerate(distinct.to_pylist())}
        found = [float("nan") if value is None else float(codes[value]) for value in array.to_pylist()]
        return np.array(found), [str(value) for value in codes]

    def _timed(self, there: npt.NDArray[np.bool_]) -> npt.NDArray[np.int8] | None:
        if self._dataset.known_at is None:
            return None
        at_us, has_time = microseconds(column(self._table, KNOWN_AT, self._inputs.dataset), f"{self._inputs.dataset}.{KNOWN_AT}")
        return time_split(at_us, has_time & there, self._split)[0]

    def _hashed(self, images: Sequence[bytes]) -> npt.NDArray[np.int8]:
        return np.array([hashed_split(image, self._split, self._inputs.seed) for image in images], np.int8)

    def _records(self, record: np.dtype[Any], rows: npt.NDArray[np.intp], labels: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        records = np.zeros(len(rows), record)
        records["partition"], records["offset"] = (self._places[name][rows] for name in (PARTITION, OFFSET))
        records["label"] = labels[rows]
        return records

    def _read(self, name: str, row: int) -> bytes:
        where = f"row {self._places[OFFSET][row]} of partition {self._places[PARTITION][row]} of {self._inputs.dataset}"
        try:
            if name.startswith("data:"):
                return base64.b64decode(name.partition(",")[2], validate=True)
            return confined(self._project, name).read_bytes()
        except (OSError, binascii.Error, BedplateError) as error:
            why = error.what if isinstance(error, BedplateError) else str(error)
            raise DataError(f"{where}: its image cannot be read: {why}", value=name[:200], fix="mend or remove that row") from error
