"""Text of a request as the tokens that training saw, by the tokenizer that is part of the version.

Does not know: how documents were packed for training (`data`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from bedplate.core.errors import DataError
from bedplate.train.preprocess import Arrays
from bedplate.train.samples import SamplePreprocessing


class TextPreprocessing(SamplePreprocessing):
    """A tokenizer, and the facts of the training samples."""

    @cached_property
    def text(self) -> Tokenizer:
        """The tokenizer. Raises DataError for a version that lost it."""
        if self.tokenizer is None:
            raise DataError("the version has no tokenizer", fix="train it again")
        read = Tokenizer.from_str(self.tokenizer)
        read.encode_special_tokens = True  # as in training: what a request quotes is text
        return read

    def encode_rows(self, rows: Sequence[Mapping[str, Any]]) -> Arrays:
        """Rows with a field "text" as "tokens" int64 [rows, longest], ended with the end token, and "lengths" int64 [rows].

        Raises DataError for a row without text, or whose text is none.
        """
        for row in rows:
            if not isinstance(row.get("text"), str):
                raise DataError("a row needs a text", value=row.get("text"), fix='send {"text": "..."}')
        ids = [encoding.ids for encoding in self.text.encode_batch([row["text"] for row in rows], add_special_tokens=False)]
        lengths = np.array([len(each) for each in ids], np.int64)
        tokens = np.full((len(ids), int(lengths.max(initial=0))), self.facts["end"], np.int64)
        for place, each in enumerate(ids):
            tokens[place, : len(each)] = each
        return {"tokens": tokens, "lengths": lengths}
