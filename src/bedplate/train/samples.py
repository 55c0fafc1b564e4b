"""Preprocessing of samples that are no columns: nothing is fitted, but a version must still be able to turn a request into tensors.

Does not know: tokenizers (`text`) or images (`images`), which build on this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from bedplate.core.errors import DataError
from bedplate.core.protocols import Feed
from bedplate.train.preprocess import Arrays, ColumnEncoder, Columns, Dictionary, Preprocessing, Scale, Signature

UNSCALED = Scale("", 0.0, 1.0, indicator=False)


class SampleEncoder(ColumnEncoder):
    """Gives arrays of a feed on as they are."""

    def encode(self, columns: Columns) -> Arrays:
        """The same arrays."""
        return dict(columns)


@dataclass(frozen=True)
class SamplePreprocessing(Preprocessing):
    """What a version must remember of its samples: their `kind` and `facts`, and the tokenizer where there is one."""

    kind: str
    facts: Mapping[str, Any]
    tokenizer: str | None

    @classmethod
    def of(cls, feed: Feed) -> Self:
        """What follows from a feed. Raises DataError for one without training samples."""
        if not feed.rows("train"):
            raise DataError("there are no samples to train on", value="train", fix="check the split")
        schema = feed.schema
        return cls((), (), Scale(schema.label, 0.0, 1.0, indicator=False), schema.kind, dict(schema.facts), feed.tokenizer)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        label = Scale(values["label"], 0.0, 1.0, indicator=False)
        return cls((), (), label, values["kind"], values["facts"], values.get("tokenizer"))

    @property
    def signature(self) -> Signature:
        """What follows for a model."""
        return Signature((), (), (), (), self.label.name, 0.0, 1.0, self.kind, self.facts)

    def encoder(self, dictionary: Dictionary) -> SampleEncoder:
        """An encoder of a feed's arrays."""
        return SampleEncoder(self, dictionary)

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, the tokenizer's own JSON in it as text."""
        values = {"format": 1, "kind": self.kind, "label": self.label.name, "facts": dict(self.facts)}
        return values | ({"tokenizer": self.tokenizer} if self.tokenizer is not None else {})
