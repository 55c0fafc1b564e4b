"""Preprocessing fitted on the train split: numbers scaled, categories indexed, the same for training arrays and for a request's rows.

A numeric column becomes (value - mean) / std, cut at +-8; null, NaN and infinity become 0, with an indicator column when the train
split has any. A categorical column becomes the index of its string in a sorted vocabulary; 0 is unknown or null.
Does not know: torch, where arrays come from, or what a model does with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from bedplate.core.errors import DataError, nearest
from bedplate.core.loading import Entry, load
from bedplate.core.protocols import Feed

CUT_SIGMAS = 8.0
ROUNDING = 1e-12  # of the largest value: less spread than this is none
SAMPLES: Mapping[str, Entry] = {
    "tokens": Entry("bedplate.train.text:TextPreprocessing", "a tokenizer", extra="text"),
    "images": Entry("bedplate.train.images:ImagePreprocessing", "a size and classes", extra="images"),
}

Arrays = dict[str, npt.NDArray[Any]]
Columns = Mapping[str, npt.NDArray[Any]]
Dictionary = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives: the order and widths of its inputs, the label with the mean and deviation of the train split.

    `numeric` are the columns of "numeric", followed by one indicator for each of `indicators`; `cardinalities` are the sizes of the
    vocabularies of `categorical`, the place of the unknown included: an index is below its cardinality. For samples that are no columns
    these are empty, `kind` is "tokens" or "images", and `facts` say the rest.
    """

    numeric: tuple[str, ...]
    indicators: tuple[str, ...]
    categorical: tuple[str, ...]
    cardinalities: tuple[int, ...]
    label: str
    label_mean: float
    label_std: float
    kind: str = "table"
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def vocabulary(self) -> int:
        """How many different tokens there are. Raises DataError for a model that takes none."""
        return int(self._fact("vocabulary"))

    @property
    def sequence(self) -> int:
        """How many tokens a sample has to predict; "tokens" has one more. Raises DataError for a model that takes none."""
        return int(self._fact("sequence"))

    @property
    def end(self) -> int:
        """The token that ends a document. Raises DataError for a model that takes no tokens."""
        return int(self._fact("end"))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of "images" in pixels. Raises DataError for a model that takes none."""
        height, width = self._fact("size")
        return int(height), int(width)

    @property
    def classes(self) -> tuple[str, ...]:
        """What the codes of an image's label stand for, none for a number. Raises DataError for a model that takes no images."""
        return tuple(self._fact("classes"))

    def _fact(self, name: str) -> Any:
        if name not in self.facts:
            raise DataError(f"a model of kind {self.kind!r} has no such fact", value=name, fix=nearest(name, self.facts))
        return self.facts[name]

    @property
    def numeric_width(self) -> int:
        """The width of "numeric": columns and indicators."""
        return len(self.numeric) + len(self.indicators)

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; the width is given for readers of other languages."""
        values = {**asdict(self), "numeric_width": self.numeric_width}
        return values if self.kind != "table" else {name: value for name, value in values.items() if name not in ("kind", "facts")}


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation (1 for a constant) of a numeric column's finite values; `indicator`: the train split has nulls."""

    name: str
    mean: float
    std: float
    indicator: bool


@dataclass(frozen=True)
class Vocabulary:
    """The strings of a categorical column that the train split has, sorted; the index of `words[i]` is i + 1."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Preprocessing:
    """Fitted preprocessing. Equal values are encoded equally whether they come as arrays of a feed or as rows of a request."""

    numeric: tuple[Scale, ...]
    categorical: tuple[Vocabulary, ...]
    label: Scale

    @property
    def signature(self) -> Signature:
        """What follows for a model."""
        return Signature(
            numeric=tuple(scale.name for scale in self.numeric),
            indicators=tuple(scale.name for scale in self.numeric if scale.indicator),
            categorical=tuple(vocabulary.name for vocabulary in self.categorical),
            cardinalities=tuple(len(vocabulary.words) + 1 for vocabulary in self.categorical),
            label=self.label.name,
            label_mean=self.label.mean,
            label_std=self.label.std,
        )

    def encoder(self, dictionary: Dictionary) -> ColumnEncoder:
        """An encoder of arrays whose categorical codes stand for the strings of `dictionary(column)`."""
        return ColumnEncoder(self, dictionary)

    def encode_columns(self, columns: Columns, dictionary: Dictionary) -> Arrays:
        """Arrays of a feed, as `ColumnEncoder.encode` gives them. For many batches make an `encoder` once."""
        return self.encoder(dictionary).encode(columns)

    def encode_rows(self, rows: Sequence[Mapping[str, Any]]) -> Arrays:
        """Rows of raw values by column name as "numeric" float32 [rows, n] and "categorical" int64 [rows, m]. None is null.

        Columns that the model does not take are left alone. Raises DataError for a missing column or a value of the wrong type.
        """
        numeric = np.empty((len(rows), len(self.numeric)))
        categorical = np.empty((len(rows), len(self.categorical)), dtype=np.int64)
        for place, row in enumerate(rows):
            for column, scale in enumerate(self.numeric):
                numeric[place, column] = _number(row, scale.name)
            for column, vocabulary in enumerate(self.categorical):
                categorical[place, column] = self._indices[column].get(_text(row, vocabulary.name), 0)
        return {"numeric": self.scaled(numeric), "categorical": categorical}

    def scaled(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Raw numbers [rows, columns] as float32 [rows, numeric_width]: scaled, cut, indicators appended."""
        missing = ~np.isfinite(values)
        mean, std, indicated = self._scales
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is cut, what is invalid is missing
            scaled = np.clip((values - mean) / std, -CUT_SIGMAS, CUT_SIGMAS)
        scaled[missing] = 0.0
        return np.concatenate([scaled, missing[:, indicated]], axis=1, dtype=np.float32)

    @cached_property
    def _scales(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], list[int]]:
        indicated = [column for column, scale in enumerate(self.numeric) if scale.indicator]
        return np.array([scale.mean for scale in self.numeric]), np.array([scale.std for scale in self.numeric]), indicated

    @cached_property
    def _indices(self) -> list[dict[str | None, int]]:
        return [{word: index for index, word in enumerate(vocabulary.words, 1)} for vocabulary in self.categorical]

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; floats survive JSON exactly."""
        return {"format": 1, **asdict(self)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Preprocessing:
        """The inverse of `to_json`, of any kind. Raises Unavailable when the library of its kind is not installed."""
        if "kind" in values:
            read: Preprocessing = load(SAMPLES, values["kind"], "kind of sample").read(values)
            return read
        return Preprocessing(
            tuple(Scale(**scale) for scale in values["numeric"]),
            tuple(Vocabulary(each["name"], tuple(each["words"])) for each in values["categorical"]),
            Scale(**values["label"]),
        )


class ColumnEncoder:
    """Encodes arrays of one feed: its codes are translated to the vocabulary's indices by a table made once."""

    def __init__(self, preprocessing: Preprocessing, dictionary: Dictionary) -> None:
        self._preprocessing = preprocessing
        self._tables = [_table(vocabulary, dictionary(vocabulary.name)) for vocabulary in preprocessing.categorical]

    def encode(self, columns: Columns) -> Arrays:
        """ "numeric" float32 [rows, n], "categorical" int64 [rows, m] and, where `columns` has the label, "label" float32 [rows], unscaled.

        `columns` are typed as those of `core.protocols.FeedBatch`. Raises DataError for a missing column.
        """
        fitted = self._preprocessing
        numeric = [_column(columns, scale.name) for scale in fitted.numeric]
        codes = [_column(columns, vocabulary.name) for vocabulary in fitted.categorical]
        rows = len(next(iter(columns.values()), ()))
        stacked = np.column_stack(numeric) if numeric else np.empty((rows, 0))
        categorical = np.empty((rows, len(codes)), dtype=np.int64)
        for place, (table, column) in enumerate(zip(self._tables, codes, strict=True)):
            categorical[:, place] = table[column]  # code -1, null, is the table's last place
        arrays: Arrays = {"numeric": fitted.scaled(stacked), "categorical": categorical}
        if fitted.label.name in columns:
            arrays["label"] = columns[fitted.label.name].astype(np.float32)
        return arrays


def fit(feed: Feed, split: str = "train") -> Preprocessing:
    """Preprocessing fitted on one split of `feed`. Deterministic.

    Raises DataError for a split without rows, or values too large to have a standard deviation.
    """
    if feed.schema.kind != "table":
        of_samples: Preprocessing = load(SAMPLES, feed.schema.kind, "kind of sample").of(feed)
        return of_samples
    if not feed.rows(split):
        raise DataError("there are no rows to fit preprocessing on", value=split, fix="check the label's join and the split")
    columns, schema = feed.columns(split), feed.schema
    return Preprocessing(
        tuple(_fit_scale(name, columns[name]) for name in schema.numeric),
        tuple(_fit_vocabulary(name, columns[name], feed.dictionary(name)) for name in schema.categorical),
        _fit_scale(schema.label, columns[schema.label]),
    )


def _fit_scale(name: str, values: npt.NDArray[Any]) -> Scale:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Scale(name, 0.0, 1.0, indicator=True)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(finite.mean()), float(finite.std())
    if not np.isfinite([mean, std]).all():
        largest = float(np.abs(finite).max())
        raise DataError(f"values of column {name!r} are too large to be scaled", value=largest, fix="derive a column in a larger unit")
    constant = std <= ROUNDING * np.abs(finite).max(initial=0.0)  # what is left of equal values when their mean was rounded
    return Scale(name, mean, 1.0 if constant else std, indicator=len(finite) < len(values))


def _fit_vocabulary(name: str, codes: npt.NDArray[Any], strings: Sequence[str]) -> Vocabulary:
    seen = np.flatnonzero(np.bincount(codes[codes >= 0], minlength=1))
    return Vocabulary(name, tuple(sorted({strings[code] for code in seen.tolist()} if len(strings) else set())))


def _table(vocabulary: Vocabulary, strings: Sequence[str]) -> npt.NDArray[np.int64]:
    indices = {word: index for index, word in enumerate(vocabulary.words, 1)}
    return np.array([*(indices.get(string, 0) for string in strings), 0], dtype=np.int64)


def _column(columns: Columns, name: str) -> npt.NDArray[Any]:
    if name not in columns:
        raise DataError("the model takes a column that is not there", value=name, fix=nearest(name, columns))
    return columns[name]


def _value(row: Mapping[str, Any], name: str) -> Any:
    try:
        return row[name]
    except KeyError:
        raise DataError("the model takes a column that is not there", value=name, fix=nearest(name, row)) from None


def _number(row: Mapping[str, Any], name: str) -> float:
    value = _value(row, name)
    if value is None:
        return float("nan")
    if not isinstance(value, Real):
        raise DataError(f"column {name!r} takes numbers", value=value, fix="send a number or null")
    try:
        return float(value)
    except OverflowError:
        return float("nan")  # an integer beyond the range of float64 is as infinite as 1e999


def _text(row: Mapping[str, Any], name: str) -> str | None:
    value = _value(row, name)
    if value is not None and not isinstance(value, str):
        raise DataError(f"column {name!r} takes text", value=value, fix="send a string or null")
    return value
