"""Image records: encoded as they came (JPEG, PNG, WebP…), decoded and resized when they are fed, by Pillow.

Does not know: where an image came from, but for its row's place, which errors name.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from bedplate.core.errors import DataError
from bedplate.data.feed.records import Manifest, Records

CHANNELS = 3


class ImageCodec:
    """From records to {"images": uint8 [rows, 3, height, width], LABEL: int64 or float32 [rows]}."""

    def __init__(self, manifest: Manifest) -> None:
        """The manifest of a set of kind "images"."""
        self._height, self._width = manifest.facts["size"]
        self._source = manifest.facts["source"]
        self._label = manifest.label
        self._kind = np.int64 if manifest.facts["classes"] else np.float32

    def columns(self, records: Records, numbers: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
        """These records. Raises DataError, naming the row, for bytes that are no image."""
        located = records.located(numbers)
        images = np.empty((len(located), CHANNELS, self._height, self._width), np.uint8)
        labels = np.empty(len(located), self._kind)
        for place, (shard, row) in enumerate(located):
            record = shard.records[row]
            try:
                images[place] = decoded(shard.own_bytes(row), (self._height, self._width))
            except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                what = f"row {record['offset']} of partition {record['partition']} of {self._source} is no image that can be decoded"
                raise DataError(what, value=str(error), fix="mend or remove that row, and run the training-set step again") from error
            labels[place] = record["label"]
        return {"images": images, **({self._label: labels} if self._label else {})}

    def batches(self, records: Records, spans: Sequence[npt.NDArray[np.int64]]) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """The records of each span, decoded by the caller's own thread."""
        for span in spans:
            yield self.columns(records, span)


def decoded(data: bytes, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """An encoded image as RGB, uint8 [3, height, width], resized (bilinear) to `size` = (height, width).

    Raises what Pillow raises for bytes that it cannot decode.
    """
    height, width = size
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (width, height))  # a JPEG is decoded at a half, a quarter or an eighth when that is enough
        whole = image.convert("RGB")
        if whole.size != (width, height):
            whole = whole.resize((width, height), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(whole, np.uint8).transpose(2, 0, 1))
