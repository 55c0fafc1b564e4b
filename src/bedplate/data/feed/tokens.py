"""Token records: `sequence + 1` tokens in a row, cut from packed documents; the last one is the first of the record behind it.

Does not know: tokenizers; which split or order a record is in (`samples`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bedplate.data.feed.records import Manifest, Records


class TokenCodec:
    """From records to {"tokens": int64 [rows, sequence + 1]}."""

    def __init__(self, manifest: Manifest) -> None:
        """The manifest of a set of kind "tokens"."""
        self._width = int(manifest.facts["sequence"]) + 1
        self._stored = manifest.record["tokens"].base

    def gathered(self, records: Records, numbers: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """These records' tokens as they are stored, gathered shard by shard."""
        tokens = np.empty((len(numbers), self._width), self._stored)
        for shard, rows, places in records.grouped(numbers) if len(numbers) else ():
            tokens[places] = shard.records["tokens"].take(rows, axis=0)
        return tokens

    def columns(self, records: Records, numbers: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
        """These records."""
        return {"tokens": self.gathered(records, numbers).astype(np.int64)}

    def batches(self, records: Records, spans: Sequence[npt.NDArray[np.int64]]) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """The records of each span. All are gathered at once, then each span is widened to int64 while it is in the processor's cache."""
        tokens = self.gathered(records, np.concatenate(spans))
        first = 0
        for span in spans:
            yield {"tokens": tokens[first : first + len(span)].astype(np.int64)}
            first += len(span)
