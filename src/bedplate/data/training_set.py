"""Training sets: a spine's rows, whole and in order, with columns, point-in-time features, label and split, as fixed-width files.

The label is joined by the spine's key, whenever it became known: it is what the model is to foretell. Of several rows with one key the
first known one that has a value counts. Categorical columns (strings) are codes into a sorted dictionary of the spine's values;
int, bool and timestamp (seconds since the epoch) columns are float64.
Does not know: how features are looked up (`data.join`), or the order in which rows are fed (`data.feed`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bedplate.core.atomic import write_bytes, write_json
from bedplate.core.digest import digest, digest_file
from bedplate.core.errors import DataError
from bedplate.core.protocols import FeedSchema
from bedplate.core.spec import Dataset, Inputs, Split
from bedplate.data.features import View
from bedplate.data.feed import AT, CODES, DICTIONARIES, MANIFEST, NEVER_US, NUMBERS, PLACE, SPLIT, SPLITS
from bedplate.data.join import join
from bedplate.data.keys import KNOWN_AT, OFFSET, PARTITION, Bools, Ints, column, encode, lookup, microseconds, validity
from bedplate.data.on_demand import OnDemandView, apply

_FORMAT = 1


@dataclass(frozen=True)
class TrainingSet:
    """A training set in `folder`. `splits` counts rows by split ("unlabelled" for the rest); `boundaries_us` says from which time on a row
    is in "valid" and in "test" (None: no row is). `digest` is that of the manifest, which has the digests of all files.
    """

    folder: Path
    rows: int
    schema: FeedSchema
    splits: Mapping[str, int]
    boundaries_us: Mapping[str, int | None]
    digest: str


def build(
    inputs: Inputs,
    split: Split,
    spine: pa.Table,
    spine_dataset: Dataset,
    label: pa.Table,
    views: Sequence[View | OnDemandView],
    out: Path,
    progress: Callable[[int, int], None],
) -> TrainingSet:
    """Write the training set of `inputs` into folder `out`. `label` is the cut of the label's dataset. The manifest is written last.

    On-demand views are computed after the others, in their order, from any columns of the spine and of views before them.
    Raises DataError for a column that a table lacks (with its nearest names), a name that is there twice, a spine without a key, or a
    label that is no number.
    """
    progress(0, spine.num_rows)
    columns = pa.table({name: column(spine, name, inputs.spine) for name in inputs.columns})
    joined = join(spine, KNOWN_AT, [view for view in views if isinstance(view, View)], spine_dataset.key, inputs.spine)
    for view in (view for view in views if isinstance(view, OnDemandView)):
        for name, values in apply(view, {name: column(joined, name, inputs.spine) for name in view.inputs}).items():
            joined = joined.append_column(name, values)
    for name in (name for view in views for name, _ in (view.columns if isinstance(view, View) else view.names)):
        columns = columns.append_column(name, joined.column(name))
    target = _label(inputs, spine, spine_dataset, label)
    schema = _schema(columns, inputs.label.partition(".")[2])
    at_us, has_time = microseconds(column(spine, KNOWN_AT, inputs.spine), f"{inputs.spine}.{KNOWN_AT}")
    at_us = np.where(has_time, at_us, NEVER_US)
    codes, boundaries = time_split(at_us, has_time & ~np.isnan(target), split)
    files = {
        NUMBERS: _stacked([numbers(columns.column(name).combine_chunks()) for name in schema.numeric] + [target], "<f8"),
        SPLIT: codes.astype("<i1").tobytes(),
        AT: at_us.astype("<i8").tobytes(),
    }
    files |= {file: spine.column(name).to_numpy().astype("<i8").tobytes() for file, name in zip(PLACE, (PARTITION, OFFSET), strict=True)}
    coded = {name: _coded(columns.column(name).combine_chunks()) for name in schema.categorical}
    files[CODES] = _stacked([part for part, _ in coded.values()], "<i4")
    return _write(out, files, {name: words for name, (_, words) in coded.items()}, schema, codes, boundaries, progress)


def time_split(at_us: Ints, labelled: Bools, split: Split) -> tuple[npt.NDArray[np.int8], dict[str, int | None]]:
    """The split code of each row, and the times from which on rows are in "valid" and in "test".

    Among n labelled rows in order of time, the test begins at the time of the row `round(n * test)` from the end, and the valid part as
    many as `round(n * valid)` before it. Rows of one time stay together, in the later part: nothing in the test was known before any
    row that was trained on. Rows that are not labelled, or have no time, get -1.
    """
    times = np.sort(at_us[labelled])
    first_test = len(times) - round(len(times) * split.test)
    first_valid = first_test - round(len(times) * split.valid)
    test_from = int(times[first_test]) if first_test < len(times) else None
    valid_from = int(times[first_valid]) if first_valid < first_test else None
    if valid_from == test_from:  # all of what would be valid is of the test's first time
        valid_from = None
    codes = np.zeros(len(at_us), np.int8)
    if valid_from is not None:
        codes[at_us >= valid_from] = SPLITS.index("valid")
    if test_from is not None:
        codes[at_us >= test_from] = SPLITS.index("test")
    codes[~labelled] = -1
    return codes, {"valid": valid_from, "test": test_from}


def numbers(array: pa.Array[Any]) -> npt.NDArray[np.float64]:
    """A column as float64, NaN for null: bool as 0 and 1, a timestamp as seconds since the epoch."""
    if pa.types.is_timestamp(array.type):
        return np.asarray(numbers(array.cast(pa.int64())) / 1e6)
    return np.asarray(array.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False))


def _label(inputs: Inputs, spine: pa.Table, dataset: Dataset, table: pa.Table) -> npt.NDArray[np.float64]:
    """The label of each row of the spine, NaN where it is unknown."""
    owner, _, name = inputs.label.partition(".")
    if not dataset.key:
        raise DataError("the spine has no key to join the label by", value=inputs.spine, fix="declare `key:` for the dataset")
    array = column(table, name, owner)
    if pa.types.is_string(array.type):
        raise DataError("a label must be a number", value=inputs.label, fix="derive a number from it: `derive: {NAME: ...}`")
    values = numbers(array)
    codes, keys = encode(table, dataset.key, owner)
    known, is_known = microseconds(column(table, KNOWN_AT, owner), f"{owner}.{KNOWN_AT}")
    known = np.where(is_known, known, np.iinfo(np.int64).max)
    partition, offset = (table.column(place).to_numpy() for place in (PARTITION, OFFSET))
    rows = np.flatnonzero((codes >= 0) & ~np.isnan(values))
    rows = rows[np.lexsort((offset[rows], partition[rows], known[rows]))]
    by_key = np.full(keys.num_rows + 1, np.nan)  # the last place is for a key that is not there
    found, first = np.unique(codes[rows], return_index=True)
    by_key[found] = values[rows[first]]
    return by_key[lookup(keys, spine, inputs.spine)[0]]


def _schema(columns: pa.Table, label: str) -> FeedSchema:
    names = [*columns.column_names, label]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        fix = "leave it out of `columns`: a model must not be given its label" if label in twice else "name it once"
        raise DataError("a training set cannot have two columns of one name", value=twice[0], fix=fix)
    categorical = [field.name for field in columns.schema if pa.types.is_string(field.type)]
    return FeedSchema(tuple(name for name in columns.column_names if name not in categorical), tuple(categorical), label)


def _coded(array: pa.Array[Any]) -> tuple[npt.NDArray[Any], list[str]]:
    words: list[str] = sorted(cast("list[str]", array.drop_null().unique().to_pylist()))
    places = pc.index_in(array, pa.array(words, pa.string())).fill_null(-1).to_numpy(zero_copy_only=False)
    return np.where(validity(array), places, -1), words


def _stacked(columns: Sequence[npt.NDArray[Any]], dtype: str) -> bytes:
    return np.stack(columns, axis=1).astype(dtype).tobytes() if columns else b""


def _write(
    out: Path,
    files: Mapping[str, bytes],
    dictionaries: Mapping[str, list[str]],
    schema: FeedSchema,
    codes: npt.NDArray[np.int8],
    boundaries: Mapping[str, int | None],
    progress: Callable[[int, int], None],
) -> TrainingSet:
    for name, content in files.items():
        write_bytes(out / name, content)
    write_json(out / DICTIONARIES, dictionaries)
    splits = {name: int(np.count_nonzero(codes == code)) for code, name in enumerate(SPLITS)}
    splits["unlabelled"] = int(np.count_nonzero(codes == -1))
    manifest = {
        "format": _FORMAT,
        "rows": len(codes),
        "schema": {"numeric": list(schema.numeric), "categorical": list(schema.categorical), "label": schema.label},
        "splits": splits,
        "boundaries_us": dict(boundaries),
        "files": {name: digest_file(out / name) for name in sorted([*files, DICTIONARIES])},
    }
    write_json(out / MANIFEST, manifest)
    progress(len(codes), len(codes))
    return TrainingSet(out, len(codes), schema, splits, boundaries, digest(manifest))
